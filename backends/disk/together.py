"""Whole pieces that come at the same time go to their folders in one job of one thread.

Six pieces of a pack for six folders of one disk cost six times the way to a thread and back, and six threads that take
the interpreter from each other; their syncs one after the other would wait for the disk six times. So one thread does
each step for all of them, and the syncs of a step run side by side (`backends.disk.syncs`). Each piece has its own
outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from weakref import WeakKeyDictionary

from backends.disk.incoming import Incoming
from backends.disk.place import Place
from backends.disk.syncs import sync_all
from backends.disk.system import close_quietly
from backends.errors import PermanentError
from core.buffers import Buffer


class WholePiece:
    """One piece of a batch. On the event loop, `started` is told the job that stores it, and `ended` the outcome, once;
    of a piece that was `dropped` before the job began neither."""

    __slots__ = ("buffers", "dropped", "ended", "error", "incoming", "started")

    def __init__(
        self,
        incoming: Incoming,
        buffers: Sequence[Buffer],
        started: Callable[[Future[None]], None],
        ended: Callable[[BaseException | None], None],
    ) -> None:
        self.incoming = incoming
        self.buffers = buffers
        self.started = started
        self.ended = ended
        self.dropped = False
        self.error: BaseException | None = None


class Together:
    """Gathers the pieces of one turn of the event loop for the folders of one device that share a thread pool. Those of
    another device go by themselves: it may be slow, or hang."""

    def __init__(self) -> None:
        self._gathered: list[WholePiece] = []

    @classmethod
    def of(cls, pool: Executor, device: str) -> Together:
        """The one of this pool and device."""
        devices = _BY_POOL.get(pool)
        if devices is None:
            devices = _BY_POOL[pool] = {}
        found = devices.get(device)
        if found is None:
            found = devices[device] = cls()
        return found

    def add(self, pool: Executor, piece: WholePiece) -> None:
        """Store a piece with the others of this turn."""
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._start, pool)
        self._gathered.append(piece)

    def _start(self, pool: Executor) -> None:
        gathered, self._gathered = self._gathered, []
        pieces = [piece for piece in gathered if not piece.dropped]
        if not pieces:
            return
        try:
            job = pool.submit(store_together, pieces)
        except RuntimeError as error:  # the pool was shut down
            for piece in pieces:
                piece.ended(PermanentError(str(error)))
            return
        for piece in pieces:
            piece.started(job)
        loop = asyncio.get_running_loop()

        def tell(job: Future[None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                loop.call_soon_threadsafe(_tell, pieces, job)

        job.add_done_callback(tell)


_BY_POOL: WeakKeyDictionary[Executor, dict[str, Together]] = WeakKeyDictionary()


def _tell(pieces: Sequence[WholePiece], job: Future[None]) -> None:
    failure = PermanentError("the job was cancelled") if job.cancelled() else job.exception()
    for piece in pieces:
        piece.ended(piece.error or failure)


def store_together(pieces: Sequence[WholePiece]) -> None:
    """In a thread: write, sync and publish every piece as `Incoming.finish` does; what went wrong is its `error`."""
    for piece in pieces:
        with _blamed(piece):
            piece.incoming.append(piece.buffers)
    left = _unharmed(pieces)
    _blame(left, sync_all([piece.incoming.descriptor for piece in left], data_only=True), "a piece")
    _make_folders(_unharmed(left))
    for piece in _unharmed(left):
        with _blamed(piece):
            piece.incoming.publish()
    _sync_folders([piece for piece in _unharmed(left) if piece.incoming.published])
    for piece in _unharmed(left):
        with _blamed(piece):
            piece.incoming.place.check()  # a folder that was swapped meanwhile got bytes that nobody would find again


def _make_folders(pieces: Sequence[WholePiece]) -> None:
    """Make the fan-out folders that are not there, all with one sync for each node."""
    lacking: dict[Place, list[WholePiece]] = {}
    for piece in pieces:
        if piece.incoming.place.lacks_folder(piece.incoming.folder):
            lacking.setdefault(piece.incoming.place, []).append(piece)
    if not lacking:
        return
    with contextlib.ExitStack() as stack:
        made: list[tuple[Place, set[str], int]] = []
        for place in sorted(lacking, key=id):  # in one order in all threads: each is locked
            folders = {piece.incoming.folder for piece in lacking[place]}
            with contextlib.suppress(OSError):  # `publish` tries again, and tells
                made.append((place, folders, stack.enter_context(place.making(folders))))
        errors = sync_all([descriptor for _, _, descriptor in made], data_only=False)
        for (place, folders, _), error in zip(made, errors, strict=True):
            if error is None:
                place.keep_folders(folders)
            else:
                _blame(lacking[place], [error] * len(lacking[place]), "a folder")


def _sync_folders(pieces: Sequence[WholePiece]) -> None:
    """Make the names of published pieces durable."""
    opened: list[tuple[WholePiece, int]] = []
    try:
        for piece in pieces:
            try:
                opened.append((piece, piece.incoming.open_folder()))
            except OSError as error:
                _blame([piece], [error], "a folder")
        errors = sync_all([descriptor for _, descriptor in opened], data_only=False)
        _blame([piece for piece, _ in opened], errors, "a folder")
    finally:
        for _, descriptor in opened:
            close_quietly(descriptor)


def _unharmed(pieces: Sequence[WholePiece]) -> list[WholePiece]:
    return [piece for piece in pieces if piece.error is None]


def _blame(pieces: Sequence[WholePiece], errors: Sequence[OSError | None], what: str) -> None:
    """Failed syncs are the end of all writing to their node."""
    for piece, error in zip(pieces, errors, strict=True):
        if error is not None:
            piece.error = piece.incoming.unsynced(error, what)


@contextlib.contextmanager
def _blamed(piece: WholePiece) -> Iterator[None]:
    """Whatever a step raises belongs to this piece alone."""
    try:
        yield
    except Exception as error:
        piece.error = error
