"""A guest's transaction: it remembers what it read, for the host to check before it commits the writes."""

from __future__ import annotations

from collections.abc import Sequence

from catalog.interface import Row
from catalog.lmdb_engine.overlay import WriteSet, merged_scan
from catalog.lmdb_engine.snapshot import Snapshot


class RecordingTransaction(WriteSet):
    """A `Transaction` over its own writes and one snapshot."""

    __slots__ = ("_get", "_snapshot", "ranges", "reads")

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self._snapshot = snapshot
        self._get = snapshot.get
        self.reads: set[bytes] = set()
        #: start ≤ key < end, where another row would have changed a scan's result.
        self.ranges: list[tuple[bytes, bytes]] = []

    async def get(self, key: bytes) -> bytes | None:
        if key in self.writes:
            return self.writes[key]
        self.reads.add(key)
        return self._get(key)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [await self.get(key) for key in keys]

    async def scan(
        self, start: bytes, end: bytes, *, limit: int, reverse: bool = False, keys_only: bool = False
    ) -> list[Row]:
        if limit <= 0 or start >= end:
            return []
        own = {key: value for key, value in self.writes.items() if start <= key < end} if self.writes else {}
        rows = merged_scan(self._snapshot, own, start, end, limit, reverse, keys_only)
        if len(rows) == limit:
            # Only what the scan went over can change its result.
            last = rows[-1][0]
            start, end = (last, end) if reverse else (start, last + b"\x00")
        self.ranges.append((start, end))
        return rows
