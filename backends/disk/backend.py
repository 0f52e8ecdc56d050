"""`DiskBackend`: the interface over the folder, on the event loop's side."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from backends.disk.descriptors import PieceFile, PieceFiles
from backends.disk.incoming import Incoming, WriteGate, folder_of, path_of
from backends.disk.looking import NAME, fan_out_folders, leads_to, open_and_read, read_on, scan, size_of
from backends.disk.marker import NodeMarker
from backends.disk.place import Place
from backends.disk.space import Space
from backends.disk.system import translate
from backends.disk.together import Together, WholePiece
from backends.errors import BackendError, PermanentError
from backends.interface import Capacity, Entry, PieceSource, Properties
from core.buffers import Buffer, unset

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_FLOOR = 1 << 30

_GROUP = 1 << 19  # bytes gathered before a thread is asked to write them
_INLINE = 1 << 20  # longer reads are copied in a thread even from the page cache
_CHECK_SECONDS = 0.1  # how old the last proof of identity may be for a read
_RECHECK_SECONDS = 1.0  # how long an open file is trusted to be what its name leads to
_OWN_THREADS = 4


class DiskBackend:
    """Pieces as files in the folder `path`, which `initialise` has marked as the node `marker`.

    `key` verifies the marker's signature. `pool` runs what may wait for the disk; share one among the folders of one
    device (a device that hangs starves all who share its threads); without it the backend has four threads of its own.
    `floor` bytes of the file system stay free. At most `open_files` descriptors are kept for reads. `shared`: other
    processes that say so may have the folder open, too; else it is this one's alone.

    The locator is the name. `open` may be called again at any time: it probes the folder and, when that has gone and
    come back (remounted, restored from a copy), adopts it again; until then every call raises WrongIdentity. After a
    failed fsync all writes raise PermanentError until `close` and `open`, reads go on. Names are those of
    `core.ids.new_piece_name`; any other is a PermanentError before the file system sees it.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        marker: NodeMarker,
        key: bytes,
        pool: Executor | None = None,
        floor: int = DEFAULT_FLOOR,
        open_files: int = 64,
        shared: bool = False,
    ) -> None:
        self._path = Path(path).absolute()
        self._marker = marker
        self._key = key
        self._shared = shared
        self._given_pool = pool
        self._own_pool: ThreadPoolExecutor | None = None
        self._place: Place | None = None
        self._opening = asyncio.Lock()
        self._checked = float("-inf")
        self._gate = WriteGate()
        self._space = Space(floor)
        self._files = PieceFiles(open_files)
        self._jobs: set[Future[object]] = set()
        self._undoing: dict[str, asyncio.Task[None]] = {}
        self._nowait = hasattr(os, "RWF_NOWAIT")

    async def open(self) -> None:
        async with self._opening:
            if self._given_pool is None and self._own_pool is None:
                self._own_pool = ThreadPoolExecutor(_OWN_THREADS, thread_name_prefix="atoll-disk")
            self._gate.check()
            if self._place is not None:
                try:
                    self._place.check()
                except PermanentError:
                    self._files.clear()
                else:
                    return
            place = await self._run(partial(Place.open, self._path, self._marker, self._key, shared=self._shared))
            await self._run(self._space.read, place.root)
            self._place = place

    async def close(self) -> None:
        async with self._opening:
            place, self._place = self._place, None
            self._files.clear()
            while self._undoing or self._jobs:
                await asyncio.gather(*self._undoing.values(), return_exceptions=True)
                await asyncio.gather(*map(asyncio.wrap_future, list(self._jobs)), return_exceptions=True)
            if place is not None:
                place.unlock()
            self._gate = WriteGate()
            if self._own_pool is not None:
                self._own_pool.shutdown(wait=False)
                self._own_pool = None

    def properties(self) -> Properties:
        return Properties(kind="disk", device=self._place.device if self._place else "")

    async def put(self, name: str, source: PieceSource) -> bytes:
        """See `Backend.put`. A yielded buffer must stay unchanged until `put` ends: several go into one write."""
        locator = name.encode()
        place = await self._enter(self._name(locator), fresh=True)
        self._gate.check()
        incoming = Incoming(place, self._gate, self._space, name)
        running: Future[None] | None = None
        gathered: list[Buffer] = []
        size = 0
        try:
            async for buffer in source:
                if size >= _GROUP:
                    if running is not None:
                        await asyncio.wrap_future(running)
                    self._stays(place)
                    running = self._submit(incoming.write, gathered)
                    gathered, size = [], 0
                gathered.append(buffer)
                size += memoryview(buffer).nbytes
            if running is not None:
                await asyncio.wrap_future(running)
            self._stays(place)
            running = self._submit(incoming.finish, gathered)
            await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            self._undo(name, incoming, running)
            raise
        except BaseException:
            await asyncio.shield(self._undo(name, incoming, running))
            raise
        return locator

    def put_whole(self, name: str, buffers: Sequence[Buffer], digest: bytes) -> asyncio.Future[bytes] | None:
        """See `WholePieces.put_whole`. Pieces of one turn for folders of one device that share a pool go to disk
        together."""
        place, pool = self._place, self._given_pool or self._own_pool
        if place is None or pool is None or self._gate.failure or name in self._undoing or not NAME.fullmatch(name):
            return None
        if sum([memoryview(buffer).nbytes for buffer in buffers]) > _GROUP:
            return None
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        incoming = Incoming(place, self._gate, self._space, name)
        running: Future[None] | None = None
        over = False

        def started(job: Future[None]) -> None:
            nonlocal running
            running = job
            self._track(job)

        def ended(error: BaseException | None) -> None:
            nonlocal over
            if over or future.cancelled():
                return
            over = True
            if error is None:
                future.set_result(name.encode())
            else:
                undo = self._undo(name, incoming, None)
                undo.add_done_callback(partial(_refuse, future, error))

        def cancelled(_: asyncio.Future[bytes]) -> None:
            nonlocal over
            if not over:
                over = piece.dropped = True
                self._undo(name, incoming, running)

        piece = WholePiece(incoming, buffers, started, ended)
        future.add_done_callback(cancelled)
        Together.of(pool, place.device).add(pool, piece)
        return future

    async def get(self, locator: bytes, offset: int, length: int) -> Buffer:
        """See `Backend.get`. What the page cache holds is read at once, without a thread."""
        if offset < 0 or length < 0:
            raise ValueError("a range has no negative numbers")
        file = self._files.get(locator)
        if file is None:
            return await self._get_unopened(locator, offset, length)
        now = time.monotonic()
        place = self._here(now)
        if now - file.checked >= _RECHECK_SECONDS:
            if not leads_to(place, locator, file):
                self._files.remove(locator)
                return await self._get_unopened(locator, offset, length)
            file.checked = now
        length = max(0, min(length, file.size - offset))
        buffer = unset(length)
        held = self._read_cached(file, buffer, offset)
        if held == length:
            return buffer
        return await self._run(read_on, place, file, buffer, offset, held)

    def get_now(self, locator: bytes, offset: int, length: int) -> Buffer | None:
        """See `InstantReads.get_now`: what the page cache holds of a piece that is open."""
        file = self._instant(locator, offset, length)
        return None if file is None else self._get_cached(file, offset, length)

    def get_soon(self, locator: bytes, offset: int, length: int) -> Callable[[], Buffer | None] | None:
        """See `InstantReads.get_soon`."""
        file = self._instant(locator, offset, length)
        return None if file is None else partial(self._get_cached, file, offset, length)

    def _instant(self, locator: bytes, offset: int, length: int) -> PieceFile | None:
        """The piece, if it is open, lies where it should, and has that range."""
        file = self._files.get(locator)
        now = time.monotonic()
        place = self._place
        if file is None or place is None or now - self._checked >= _CHECK_SECONDS:
            return None
        if length > _INLINE or offset < 0 or offset + length > file.size:
            return None
        if now - file.checked >= _RECHECK_SECONDS:
            if not leads_to(place, locator, file):
                return None
            file.checked = now
        return file

    def _get_cached(self, file: PieceFile, offset: int, length: int) -> Buffer | None:
        buffer = unset(length)
        return buffer if self._read_cached(file, buffer, offset) == length else None

    def _read_cached(self, file: PieceFile, buffer: bytearray, offset: int) -> int:
        """Fill the front of `buffer` with what can be read without waiting; how many bytes that is."""
        if not self._nowait or len(buffer) > _INLINE:
            return 0
        try:
            return os.preadv(file.descriptor, [buffer], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            # Else it is a file system that doesn't know the flag. A real error comes again in a thread.
            self._nowait = error.errno == errno.EIO
            return 0

    async def delete(self, locator: bytes) -> None:
        name = self._name(locator)
        place = await self._enter(name, fresh=True)
        self._files.remove(locator)
        try:
            await self._run(self._delete, place, name)
        finally:
            self._files.remove(locator)

    async def stat(self, locator: bytes) -> Entry:
        name = self._name(locator)
        place = await self._enter(name, fresh=True)
        return Entry(name, await self._run(size_of, place, name))

    async def list(self, prefix: str = "") -> AsyncIterator[Entry]:
        """See `Backend.list`. Reads one fan-out folder a time; a prefix that reaches the random part reads only its."""
        place = self._here(float("inf"))
        if self._undoing:
            await asyncio.wait(list(self._undoing.values()))
        folders = await self._run(fan_out_folders, place)
        if len(prefix) >= 19:
            folders = [folder for folder in folders if folder == folder_of(prefix)]
        for folder in folders:
            for entry in await self._run(scan, place, folder, prefix):
                yield entry

    async def capacity(self) -> Capacity:
        place = self._here(float("inf"))
        capacity = self._space.fresh()
        if capacity is None:
            capacity = await self._run(self._space.read, place.root)
        if self._gate.failure:
            return Capacity(capacity.total, capacity.used, 0)
        return capacity

    # -- the way in and the way to the threads

    def _name(self, locator: bytes) -> str:
        name = locator.decode("ascii", "replace")
        if NAME.fullmatch(name) is None:
            raise PermanentError(f"not a piece name: {name[:80]!r}")
        return name

    def _here(self, now: float) -> Place:
        """The open place, if it is still there; a proof younger than `_CHECK_SECONDS` at `now` is enough."""
        place = self._place
        if place is None:
            raise PermanentError(f"{self._path} is not open")
        if now - self._checked >= _CHECK_SECONDS:
            place.check()
            self._checked = time.monotonic()
        return place

    def _stays(self, place: Place) -> None:
        """A put that began before `close`, or in a folder that was replaced since, must not go on."""
        if self._place is not place:
            raise PermanentError(f"{self._path} was closed")

    async def _enter(self, name: str, *, fresh: bool) -> Place:
        place = self._here(float("inf") if fresh else time.monotonic())
        while (undo := self._undoing.get(name)) is not None:
            await asyncio.wait([undo])
        return place

    def _submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        pool = self._given_pool or self._own_pool
        if pool is None:
            raise PermanentError(f"{self._path} is not open")
        job = pool.submit(function, *args, **kwargs)
        self._track(job)
        return job

    def _track(self, job: Future[T]) -> None:
        self._jobs.add(job)  # type: ignore[arg-type]  # a set of futures of anything
        job.add_done_callback(self._jobs.discard)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._submit(function, *args, **kwargs))

    def _undo(self, name: str, incoming: Incoming, running: Future[None] | None) -> asyncio.Task[None]:
        """Take back an unfinished put. Until that is done, other calls that name the piece wait for it."""
        incoming.abandon()
        task = asyncio.get_running_loop().create_task(self._discard(incoming, running))
        self._undoing[name] = task
        task.add_done_callback(lambda task: self._undoing.pop(name, None))
        return task

    async def _discard(self, incoming: Incoming, running: Future[None] | None) -> None:
        if running is not None:
            await asyncio.gather(asyncio.wrap_future(running), return_exceptions=True)
        try:
            await self._run(incoming.discard)
        except BackendError:
            # The folder has gone or its disk has failed: what is left goes when it is opened again.
            return

    # -- in threads

    async def _get_unopened(self, locator: bytes, offset: int, length: int) -> Buffer:
        name = self._name(locator)
        place = await self._enter(name, fresh=False)
        removals = self._files.removals
        file, buffer = await self._run(open_and_read, place, name, offset, length)
        if removals == self._files.removals:  # else it may have been deleted while we opened it
            self._files.add(locator, file)
        return buffer

    def _delete(self, place: Place, name: str) -> None:
        self._gate.check()
        folder = folder_of(name)
        with place.removing(folder):
            try:
                os.unlink(path_of(name), dir_fd=place.root)
            except FileNotFoundError:
                place.check()
                return
            except OSError as error:
                raise translate(error, f"deleting {name} from {place.path}") from error
            try:
                place.sync_pieces(folder)
            except OSError as error:
                raise self._gate.shut(error, f"fsync of a folder in {place.path}") from error
        place.check()


def _refuse(future: asyncio.Future[bytes], error: BaseException, _: object) -> None:
    if not future.done():
        future.set_exception(error)
