"""The embedded engine: transactions at memory speed, many of them in each synced commit.

A transaction runs at once and without a break on the event loop's thread, so transactions are serial by construction.
It reads its own writes over the pending ones of earlier transactions over the last durable snapshot. Its writes join
the gathering batch; whoever depends on a pending batch is answered only when that batch is durable. One batch at a
time is written and committed, while the next one gathers. `read` sees the durable snapshot alone.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, TypeVar

import lmdb

from catalog.errors import CatalogClosed, CatalogFailed, CatalogMisuse
from catalog.feed import read_changes
from catalog.gate import CommitGate
from catalog.interface import Change, Decide, Reader, Row, Transaction, View
from catalog.limits import check_rows
from catalog.lmdb_engine.environment import Environment
from catalog.lmdb_engine.host import GuestHost
from catalog.lmdb_engine.long_reads import LongReads
from catalog.lmdb_engine.repack import copy_dense, discard_copy
from catalog.lmdb_engine.snapshot import Snapshot
from catalog.lmdb_engine.views import OverlayTransaction, SnapshotReader, drive, look_through
from catalog.lmdb_engine.writer import Writer
from catalog.waiters import SequenceWaiters
from core.clock import Clock, SystemClock

T = TypeVar("T")

#: How long guests may take to let go of the file, while commits wait.
_RELEASE_SECONDS: Final = 2.0


class LmdbCatalog:
    """An open catalog folder (see `catalog.interface.Catalog`). Use `open`; belongs to the loop that opened it."""

    local = True

    def __init__(self, environment: Environment, clock: Clock, max_pending_rows: int) -> None:
        self._environment = environment
        self._snapshot = environment.snapshot()
        self._reader = SnapshotReader(self._snapshot)
        self._long = LongReads(self)
        self._changed = SequenceWaiters()
        self._writer = Writer(environment, self._snapshot, self._changed, clock, max_pending_rows)
        self._repacking = asyncio.Lock()
        self._closed = False
        self._guests: GuestHost | None = None
        #: Shut while the catalog moves.
        self.gate = CommitGate()

    @classmethod
    async def open(
        cls,
        path: Path | str,
        *,
        clock: Clock | None = None,
        map_size: int = 1 << 38,
        max_pending_rows: int = 100_000,
    ) -> LmdbCatalog:
        """Open the catalog in the folder `path`, which is created when absent.

        `map_size` is address space, not memory or disk, and grows when it is used up. `max_pending_rows` bounds what
        waits to be committed. Raises Locked, Corrupt, FutureVersion, or OSError for a folder that can't be used.
        """
        environment = await asyncio.to_thread(Environment, Path(path), map_size)
        return cls(environment, clock or SystemClock(), max_pending_rows)

    @property
    def exclusive(self) -> bool:
        return self._guests is None

    def share(self) -> None:
        """From now on other processes of this machine may be guests, see `admit`, and the catalog is not `exclusive`:
        to be called before anybody relies on that."""
        if self._guests is None:
            self._guests = GuestHost(self._writer, self.gate, self._environment)

    def admit(self, sock: socket.socket) -> asyncio.Task[None]:
        """Serve the `GuestCatalog` at the other end of a connected Unix stream socket, which then belongs to the
        catalog. The task ends when the guest has left; cancelled it lets the guest go. The guest must be a process of
        its own that did not fork from this one after the catalog was opened. Raises CatalogMisuse before `share`,
        CatalogClosed."""
        if self._guests is None:
            raise CatalogMisuse("the catalog is not shared")
        return self._guests.admit(sock)

    @property
    def known_sequence(self) -> int:
        return self._writer.sequence

    async def read(self, function: Callable[[Reader], Awaitable[T]], *, long: bool = False) -> T:
        if self._closed:
            raise CatalogClosed("the catalog is closed")
        if long:
            return await self._long.read(function)
        if self._guests is not None:
            self._catch_up()
        return drive(function, self._reader)

    def glance(self, keys: Sequence[bytes]) -> list[bytes | None] | None:
        """See `catalog.interface.Glance`."""
        if self._closed:
            return None
        writing = self._writer.writing
        if writing is not None and self._guests is not None and not writing.writes.keys().isdisjoint(keys):
            self._catch_up()
        return list(map(self._snapshot.get, keys))

    def view(self) -> AbstractAsyncContextManager[View]:
        return self._long.view()

    async def transact(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        self.gate.enter()
        try:
            return await self._transact(function)
        finally:
            self.gate.leave()

    async def _transact(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        writer = self._writer
        if not writer.ready:
            await writer.wait_ready()
        error: Exception | None = None
        result: T | None = None
        txn = OverlayTransaction(self._snapshot, writer.pending)
        try:
            result = drive(function, txn)
        except Exception as raised:
            error = raised
            txn.writes.clear()
        try:
            batch = writer.join(txn.writes)
            if batch is not None:
                await batch.outcome()
            # An error is only told once what it was decided on is durable too.
            if error is not None:
                raise error
            return result  # type: ignore[return-value]
        finally:
            error = None  # its traceback refers to this frame

    async def transact_known(self, keys: Sequence[bytes], decide: Decide) -> bool:
        """See `catalog.interface.TransactKnown`."""
        writer = self._writer
        if not writer.ready:
            return False
        self.gate.enter()
        try:
            writes = decide([look_through(writer.pending, self._snapshot, key) for key in keys])
            if not writes:
                return False
            check_rows(writes)
            batch = writer.join(writes)
            assert batch is not None
            await batch.outcome()
            return True
        finally:
            self.gate.leave()

    def _catch_up(self) -> None:
        """Show a commit that the event loop has not heard of yet, but others may have seen. Transactions read the same
        through the pending batch."""
        if self._writer.writing is not None:
            self._snapshot.renew()

    async def sequence(self) -> int:
        if self._closed:
            return self._writer.sequence
        self._catch_up()
        return max(self._writer.sequence, self._snapshot.sequence())

    async def changes(self, after: int, *, limit: int = 1000) -> list[Change]:
        return await self.read(lambda reader: read_changes(reader, after, limit))

    async def wait_changes(self, after: int) -> int:
        while self._writer.sequence <= after:
            if self._closed:
                raise CatalogClosed("the catalog is closed")
            await self._changed.wait()
        return self._writer.sequence

    def export(self, *, after: bytes = b"") -> AsyncGenerator[list[Row], None]:
        return self._long.export(after)

    async def load(self, rows: Sequence[Row], *, sequence: int) -> None:
        writer = self._writer
        if not writer.ready:
            await writer.wait_ready()
        await writer.join_unlisted(dict(rows), sequence).outcome()

    async def retire(self, mark: Row, *, sequence: int, unchanged: Sequence[Row]) -> bool:
        """See `catalog.copying.movable.Movable`. With the gate shut nobody else writes here."""

        async def retire(txn: Transaction) -> bool:
            held = await txn.get_many([key for key, _ in unchanged]) == [value for _, value in unchanged]
            if held and self._writer.sequence == sequence:
                txn.put(*mark)
                return True
            return False

        return await self._transact(retire)

    async def unretire(self) -> None:
        """See `catalog.copying.movable.Movable`: the mark alone keeps processes away here."""

    @property
    def read_for_long(self) -> bool:
        """Whether an export, a view or a long read is under way, of a guest's too."""
        return self._writer.long_readers > 0 or (self._guests is not None and self._guests.read_for_long)

    def file_bytes(self) -> int:
        """What the catalog's file takes of the disk."""
        return self._environment.file_bytes()

    def free_bytes(self) -> int:
        """What the catalog's disk has left."""
        return self._environment.free_bytes()

    async def repack(self) -> bool:
        """Rewrite the file densely (see repack.py). Commits wait until it is done; on an error the file stays. Returns
        False, with the file as it was, when a process that has it open did not let go of it."""
        writer, environment, guests = self._writer, self._environment, self._guests
        async with self._repacking:
            try:
                await writer.pause()
                copying = asyncio.create_task(
                    asyncio.to_thread(copy_dense, environment.raw, environment.databases, environment.folder)
                )
                try:
                    copy = await asyncio.shield(copying)
                finally:
                    # The thread reads the file that a cancelled caller may go on to close.
                    await asyncio.wait((copying,))
                await writer.release()
                if guests is not None and not await guests.release(_RELEASE_SECONDS):
                    return False
                return self._exchange(copy)
            except (OSError, lmdb.Error) as error:
                raise environment.translate(error) from error
            finally:
                discard_copy(environment.folder)
                writer.resume()
                if guests is not None:
                    guests.reopen()

    def _exchange(self, copy: Path) -> bool:
        """Go over to another file, without a pause, so that no read meets a closed snapshot."""
        environment = self._environment
        self._snapshot.close()
        try:
            return environment.exchange(copy)
        except (OSError, lmdb.Error) as error:
            self._writer.refuse(CatalogFailed(f"the catalog's file could not be exchanged: {error}"))
            raise
        finally:
            environment.rebind(self._snapshot)

    async def close(self) -> None:
        """Wait for what is pending, then let go of the folder. Further use raises CatalogClosed."""
        if self._closed:
            return
        async with self._repacking:
            self._closed = True
            await self._writer.close()
        if self._guests is not None:
            await self._guests.close()
        self._changed.wake()
        await self._long.close()
        self._snapshot.close()
        self._environment.close()

    async def enter_long(self) -> Snapshot:
        """See `catalog.lmdb_engine.long_reads.Ground`."""
        await self._writer.wait_remapped()
        if self._closed:
            raise CatalogClosed("the catalog is closed")
        self._writer.long_readers += 1
        return self._environment.snapshot()

    def leave_long(self) -> None:
        """See `catalog.lmdb_engine.long_reads.Ground`."""
        self._writer.long_reader_left()
