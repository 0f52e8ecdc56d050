"""The catalog in a guest process: it reads the LMDB file itself, and commits through the process that owns it.

Every read begins with the newest durable commit, whichever process made it. A transaction runs once over such a
snapshot; the host checks that what it read has not changed, and commits what it wrote together with what others write.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, TypeVar

import lmdb

from catalog.errors import CatalogClosed, CatalogError, CatalogMisuse, Conflict
from catalog.feed import read_changes
from catalog.interface import Change, Decide, Reader, Row, Transaction, View
from catalog.lmdb_engine import wire
from catalog.lmdb_engine.environment import GuestEnvironment
from catalog.lmdb_engine.guest_connection import GuestConnection
from catalog.lmdb_engine.long_reads import LongReads
from catalog.lmdb_engine.recording import RecordingTransaction
from catalog.lmdb_engine.snapshot import Snapshot
from catalog.lmdb_engine.views import SnapshotReader, drive
from catalog.waiters import SequenceWaiters

log = logging.getLogger("atoll.catalog")

T = TypeVar("T")

_ATTEMPTS: Final = 100
_FREE_ATTEMPTS: Final = 3  # those that come after them go one at a time, else they would keep outdating each other


class GuestCatalog:
    """A catalog that another process of this machine owns (see `catalog.interface.Catalog`). Use `open`; belongs to the
    loop that opened it."""

    exclusive = False
    local = True

    def __init__(self, folder: Path, on_lost: Callable[[], None]) -> None:
        self._folder = folder
        self._on_lost = on_lost
        self._connection = GuestConnection(self)
        self._environment: GuestEnvironment | None = None
        self._snapshot: Snapshot | None = None  # of the environment; shows something only while it is read
        self._long = LongReads(self)
        self._long_open = 0
        self._changed = SequenceWaiters()  # a later commit
        self._ready = SequenceWaiters()  # the file open, a larger map, or no more to come
        self._again = asyncio.Lock()
        self._letting_go = 0  # the number of the host's wish, until it is fulfilled or withdrawn
        self._remapping = False
        self._closing = False
        self._ended = False
        self._failure: CatalogError | None = None
        self._sequence = 0

    @classmethod
    async def open(cls, folder: Path, sock: socket.socket, *, on_lost: Callable[[], None]) -> GuestCatalog:
        """Open the catalog in `folder` as a guest of the process at the other end of `sock`, a connected Unix stream
        socket that then belongs to the catalog. Waits until the host allows it.

        `on_lost` is called once if the host ends, or ends the connection: this catalog then is closed. Raises
        CatalogClosed when that happens before, Corrupt, FutureVersion or CatalogFailed for a file that can't be read.
        """
        catalog = cls(folder, on_lost)
        try:
            await catalog._connection.connect(sock)
            while catalog._environment is None:
                catalog._check_open()
                await catalog._ready.wait()
        except BaseException:
            catalog._closing = True
            catalog._connection.drop()
            raise
        return catalog

    @property
    def known_sequence(self) -> int:
        return self._sequence

    # --- reading ---

    async def read(self, function: Callable[[Reader], Awaitable[T]], *, long: bool = False) -> T:
        if long:
            return await self._long.read(function)
        snapshot = await self._renewed()
        try:
            return drive(function, SnapshotReader(snapshot))
        finally:
            snapshot.close()

    def glance(self, keys: Sequence[bytes]) -> list[bytes | None] | None:
        """See `catalog.interface.Glance`."""
        snapshot = self._snapshot
        if snapshot is None or self._closing:
            return None
        try:
            return snapshot.look(keys)[1]
        except lmdb.MapResizedError:
            return None

    def view(self) -> AbstractAsyncContextManager[View]:
        return self._long.view()

    def export(self, *, after: bytes = b"") -> AsyncGenerator[list[Row], None]:
        return self._long.export(after)

    async def _renewed(self) -> Snapshot:
        """The snapshot, showing what is durable now; to be closed before anything else runs."""
        while True:
            snapshot = self._snapshot
            if snapshot is not None and not self._closing and self._begins(snapshot):
                return snapshot
            if self._snapshot is None or self._closing:
                await self._until_ready()

    async def enter_long(self) -> Snapshot:
        """See `catalog.lmdb_engine.long_reads.Ground`."""
        while True:
            environment = self._environment
            if environment is None or self._snapshot is None or self._letting_go or self._closing:
                await self._until_ready()
                continue
            snapshot = environment.closed_snapshot()
            if self._begins(snapshot):
                self._long_open += 1
                if self._long_open == 1:
                    self._connection.send(wire.ReadingLong(True))
                return snapshot

    async def _until_ready(self) -> None:
        """Until reads may be possible again. Raises CatalogClosed, or why the file can't be read."""
        self._check_open()
        await self._ready.wait()

    def _begins(self, snapshot: Snapshot) -> bool:
        """Renew a closed snapshot; False when the map must change before."""
        try:
            snapshot.renew()
        except lmdb.MapResizedError:
            # The map must not move under a long read, so no other read begins before those have ended.
            self._remapping = True
            self._snapshot = None
            if not self._long_open:
                self._adopt_size()
            return False
        return True

    def leave_long(self) -> None:
        """See `catalog.lmdb_engine.long_reads.Ground`."""
        self._long_open -= 1
        if self._long_open:
            return
        self._connection.send(wire.ReadingLong(False))
        if self._remapping:
            self._adopt_size()
        if self._letting_go:
            self.let_go(self._letting_go)
        if self._ended:
            self._close_file()

    def _adopt_size(self) -> None:
        """Map as much as the host has mapped by now."""
        self._remapping = False
        assert self._environment is not None
        try:
            self._environment.adopt_size()
        except CatalogError as error:
            self._fail(error)
        else:
            self._show()

    def _show(self) -> None:
        """Let reads begin."""
        assert self._environment is not None
        self._snapshot = self._environment.closed_snapshot()
        self._ready.wake()

    # --- transactions ---

    async def transact(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        turn = False
        for attempt in range(_FREE_ATTEMPTS):
            done, result, turn = await self._attempt(function, attempt, turn)
            if done:
                return result  # type: ignore[return-value]
        async with self._again:
            try:
                for attempt in range(_FREE_ATTEMPTS, _ATTEMPTS):
                    done, result, turn = await self._attempt(function, attempt, turn)
                    if done:
                        return result  # type: ignore[return-value]
            finally:
                # A turn that led to no commit is given back; the host ignores what is not its holder's.
                if turn:
                    self._connection.send(wire.TurnUnused())
        raise Conflict(f"the transaction was outdated {_ATTEMPTS} times")

    async def _attempt(
        self, function: Callable[[Transaction], Awaitable[T]], attempt: int, turn: bool
    ) -> tuple[bool, T | None, bool]:
        """Whether it is done, with what result; else whether the next attempt has a turn."""
        snapshot = await self._renewed()
        try:
            sequence = snapshot.sequence()
            txn = RecordingTransaction(snapshot)
            # An error was decided on what is durable: it is told at once.
            result = drive(function, txn)
        finally:
            snapshot.close()
        if not txn.writes:
            return True, result, turn
        sent = await self._connection.commit(sequence, attempt, turn, txn.reads, txn.ranges, txn.writes)
        return not sent.stale, result, sent.turn

    async def transact_known(self, keys: Sequence[bytes], decide: Decide) -> bool:
        """See `catalog.interface.TransactKnown`."""
        snapshot = self._snapshot
        if snapshot is None or self._closing:
            return False
        try:
            sequence, found = snapshot.look(keys)
        except lmdb.MapResizedError:
            return False
        writes = decide(found)
        if not writes:
            return False
        return not (await self._connection.commit(sequence, 0, False, keys, (), writes)).stale

    # --- the feed ---

    async def sequence(self) -> int:
        snapshot = await self._renewed()
        try:
            sequence = snapshot.sequence()
        finally:
            snapshot.close()
        self.durable(sequence)
        return sequence

    async def changes(self, after: int, *, limit: int = 1000) -> list[Change]:
        return await self.read(lambda reader: read_changes(reader, after, limit))

    async def wait_changes(self, after: int) -> int:
        while self._sequence <= after:
            self._check_open()
            await self._changed.wait()
        return self._sequence

    async def load(self, rows: Sequence[Row], *, sequence: int) -> None:
        """Not for guests. Raises CatalogMisuse."""
        raise CatalogMisuse("only the process that owns a catalog can load a backup into it")

    # --- what the host says ---

    def durable(self, sequence: int) -> None:
        """There is a commit with this sequence."""
        if sequence > self._sequence:
            self._sequence = sequence
            self._changed.wake()

    def opened(self) -> None:
        """The file may be open."""
        self._letting_go = 0
        if self._environment is None and not self._ended:
            try:
                self._environment = GuestEnvironment(self._folder)
            except CatalogError as error:
                self._fail(error)
                return
            self._show()
        self._ready.wake()

    def let_go(self, number: int) -> None:
        """Close the file and tell the host, once no long read is open; other reads wait until `opened`."""
        self._letting_go = number
        if not self._long_open:
            self._letting_go = 0
            self._close_file()
            self._connection.send(wire.Released(number))

    def _close_file(self) -> None:
        self._snapshot = None
        self._remapping = False
        environment, self._environment = self._environment, None
        if environment is not None:
            environment.close()

    def _fail(self, error: CatalogError) -> None:
        """The file can't be read any more."""
        log.error("%s", error)
        self._failure = error
        self._connection.drop()

    def ended(self) -> None:
        """The connection is no more."""
        lost = not self._closing
        self._closing = self._ended = True
        self._letting_go = 0
        if not self._long_open:
            self._close_file()
        self._ready.wake()
        self._changed.wake()
        if lost:
            self._on_lost()

    # --- the end ---

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closing:
            raise CatalogClosed("the catalog is closed")

    async def close(self) -> None:
        """Wait for what is under way, then leave the host. Further use raises CatalogClosed."""
        if self._closing:
            return
        self._closing = True
        self._ready.wake()
        self._changed.wake()
        await self._connection.finish()
        await self._long.close()
        self._close_file()
        self._connection.leave()
