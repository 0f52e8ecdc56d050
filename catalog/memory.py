"""A catalog in memory, for tests: optimistic serializability over snapshots, with every await a point of interleaving.

Each transaction runs on the snapshot of its start and records what it read: keys, and the ranges that its scans
covered. It commits if no transaction that committed meanwhile wrote any of that, else it runs again. Blind puts are
not reads, so two of the same key don't collide. Without a step hook nothing suspends and nothing ever conflicts.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from catalog.errors import CatalogClosed, Conflict
from catalog.feed import TRIMMED_KEY, feed_row, read_changes
from catalog.interface import Change, Reader, Row, Transaction, View
from catalog.keys import prefix_end, u64
from catalog.limits import check_row
from catalog.waiters import SequenceWaiters
from core.clock import Clock, SystemClock

T = TypeVar("T")

#: Awaited before every read, scan and commit; a scheduler suspends here to let others run.
Step = Callable[[], Awaitable[None]]

_ATTEMPTS: Final = 1000
_EXPORT_ROWS: Final = 1000


class _Store:
    """Rows with their history: for each key its values by commit sequence, oldest first."""

    def __init__(self) -> None:
        self.sequence = 0
        self.history: dict[bytes, list[tuple[int, bytes | None]]] = {}
        self.order: list[bytes] = []

    def get(self, key: bytes, at: int) -> bytes | None:
        for sequence, value in reversed(self.history.get(key, ())):
            if sequence <= at:
                return value
        return None

    def range(self, start: bytes, end: bytes) -> list[bytes]:
        return self.order[bisect_left(self.order, start) : bisect_left(self.order, end)]

    def write(self, key: bytes, value: bytes | None, sequence: int, oldest: int) -> None:
        """Append to the key's history and drop what no snapshot from `oldest` on can see."""
        versions = self.history.get(key)
        if versions is None:
            versions = self.history[key] = []
            insort(self.order, key)
        versions.append((sequence, value))
        visible = max((i for i, (s, _) in enumerate(versions) if s <= oldest), default=0)
        del versions[:visible]
        if len(versions) == 1 and versions[0][1] is None:
            del self.history[key]
            del self.order[bisect_left(self.order, key)]


class _Snapshot:
    """A reader at one sequence that records what it reads."""

    def __init__(self, store: _Store, on_step: Step | None) -> None:
        self._store = store
        self._on_step = on_step
        self.at = store.sequence
        self.read_keys: set[bytes] = set()
        self.read_ranges: list[tuple[bytes, bytes]] = []
        self.writes: dict[bytes, bytes | None] = {}

    async def get(self, key: bytes) -> bytes | None:
        if self._on_step is not None:
            await self._on_step()
        if key in self.writes:
            return self.writes[key]
        self.read_keys.add(key)
        return self._store.get(key, self.at)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [await self.get(key) for key in keys]

    async def scan(
        self, start: bytes, end: bytes, *, limit: int, reverse: bool = False, keys_only: bool = False
    ) -> list[Row]:
        if self._on_step is not None:
            await self._on_step()
        if limit <= 0 or start >= end:
            return []
        keys = set(self._store.range(start, end))
        keys.update(key for key in self.writes if start <= key < end)
        rows: list[Row] = []
        for key in sorted(keys, reverse=reverse):
            value = self.writes[key] if key in self.writes else self._store.get(key, self.at)
            if value is None:
                continue
            rows.append((key, b"" if keys_only else value))
            if len(rows) == limit:
                # Only what the scan went over can change its result.
                covered = (key, end) if reverse else (start, key + b"\x00")
                self.read_ranges.append(covered)
                return rows
        self.read_ranges.append((start, end))
        return rows

    async def unnumbered(self) -> list[bytes]:
        return []

    def put(self, key: bytes, value: bytes) -> None:
        check_row(key, value)
        self.writes[key] = value

    def delete(self, key: bytes) -> None:
        check_row(key, b"")
        self.writes[key] = None

    def conflicts(self, written: Sequence[bytes]) -> bool:
        """Whether any of these sorted keys was read here."""
        if not self.read_keys.isdisjoint(written):
            return True
        return any(bisect_left(written, start) < bisect_left(written, end) for start, end in self.read_ranges)


class MemoryCatalog:
    """The engine for tests (see `catalog.interface.Catalog`). Commits are durable as long as the object lives."""

    exclusive = True
    local = True

    def __init__(self, *, on_step: Step | None = None, clock: Clock | None = None) -> None:
        self._store = _Store()
        self._on_step = on_step
        self._clock = clock or SystemClock()
        self._active: list[_Snapshot] = []
        self._log: list[tuple[int, list[bytes]]] = []
        self._waiters = SequenceWaiters()
        self._closed = False
        #: How many times transactions ran again; tests of interleavings assert that they had some.
        self.retries = 0

    @property
    def known_sequence(self) -> int:
        return self._store.sequence

    async def read(self, function: Callable[[Reader], Awaitable[T]], *, long: bool = False) -> T:
        snapshot = self._open_snapshot()
        try:
            return await function(snapshot)
        finally:
            self._close_snapshot(snapshot)

    @asynccontextmanager
    async def view(self) -> AsyncIterator[View]:
        snapshot = self._open_snapshot()
        try:
            yield snapshot
        finally:
            self._close_snapshot(snapshot)

    async def transact(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        for _ in range(_ATTEMPTS):
            snapshot = self._open_snapshot()
            try:
                error: Exception | None = None
                result: T | None = None
                try:
                    result = await function(snapshot)
                except Exception as raised:
                    error = raised
                    snapshot.writes.clear()
                if self._on_step is not None:
                    await self._on_step()
                committed = self._commit(snapshot)
            finally:
                self._close_snapshot(snapshot)
            if committed:
                # An error too is only believed if what it was decided on still held.
                if error is not None:
                    raise error
                return result  # type: ignore[return-value]
            self.retries += 1
        raise Conflict(f"the transaction collided {_ATTEMPTS} times")

    async def sequence(self) -> int:
        return self._store.sequence

    async def changes(self, after: int, *, limit: int = 1000) -> list[Change]:
        return await self.read(lambda reader: read_changes(reader, after, limit))

    async def wait_changes(self, after: int) -> int:
        while self._store.sequence <= after:
            await self._waiters.wait()
            self._check_open()
        return self._store.sequence

    async def export(self, *, after: bytes = b"") -> AsyncGenerator[list[Row], None]:
        snapshot = self._open_snapshot()
        start, end = after + b"\x00", prefix_end(b"")
        try:
            while rows := await snapshot.scan(start, end, limit=_EXPORT_ROWS):
                yield rows
                start = rows[-1][0] + b"\x00"
        finally:
            self._close_snapshot(snapshot)

    async def load(self, rows: Sequence[Row], *, sequence: int) -> None:
        for key, value in [*rows, (TRIMMED_KEY, u64(sequence))]:
            check_row(key, value)
            self._store.write(key, value, self._store.sequence, self._store.sequence)
        self._store.sequence = max(self._store.sequence, sequence)

    async def close(self) -> None:
        self._closed = True
        self._waiters.wake()

    def _check_open(self) -> None:
        if self._closed:
            raise CatalogClosed("the catalog is closed")

    def _open_snapshot(self) -> _Snapshot:
        self._check_open()
        snapshot = _Snapshot(self._store, self._on_step)
        self._active.append(snapshot)
        return snapshot

    def _close_snapshot(self, snapshot: _Snapshot) -> None:
        self._active.remove(snapshot)
        oldest = min((s.at for s in self._active), default=self._store.sequence)
        while self._log and self._log[0][0] <= oldest:
            self._log.pop(0)

    def _commit(self, snapshot: _Snapshot) -> bool:
        """Write the snapshot's writes, unless something that it read has changed. Never suspends."""
        if any(at > snapshot.at and snapshot.conflicts(keys) for at, keys in self._log):
            return False
        if not snapshot.writes:
            return True
        store = self._store
        written = sorted(snapshot.writes)
        sequence = store.sequence + 1
        oldest = min(s.at for s in self._active)
        for key in written:
            store.write(key, snapshot.writes[key], sequence, oldest)
        row = feed_row(sequence, self._clock.now_us(), written)
        if row is not None:
            store.write(row[0], row[1], sequence, oldest)
        store.sequence = sequence
        self._log.append((sequence, written))
        self._waiters.wake()
        return True
