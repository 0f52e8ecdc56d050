"""Writes that are not yet durable, and reading through them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from catalog.interface import MAX_KEY, MAX_VALUE, Row
from catalog.limits import check_row
from catalog.lmdb_engine.settling import Settling
from catalog.lmdb_engine.snapshot import Snapshot

#: Values by key; None stands for a removed key.
Writes = dict[bytes, bytes | None]


class WriteSet:
    """What a transaction wrote: the half of `catalog.interface.Transaction` that needs no reading."""

    __slots__ = ("writes",)

    def __init__(self) -> None:
        self.writes: Writes = {}

    def put(self, key: bytes, value: bytes) -> None:
        if not 0 < len(key) <= MAX_KEY or len(value) > MAX_VALUE:
            check_row(key, value)
        self.writes[key] = value

    def delete(self, key: bytes) -> None:
        check_row(key, b"")
        self.writes[key] = None


class Batch(Settling):
    """The writes of transactions that will share one commit, and who waits for it."""

    __slots__ = ("_fresh", "_order", "sequence", "trimmed", "writes")

    def __init__(self) -> None:
        super().__init__()
        self.writes: Writes = {}
        self.sequence = 0  # of its commit; before that the least that it may become
        self.trimmed: int | None = None  # for restored rows: not in the feed, which begins behind this sequence
        self._order: list[bytes] = []
        self._fresh: list[bytes] = []  # keys that are not in it yet

    def merge(self, writes: Writes) -> None:
        """Add a transaction's writes behind those that are there."""
        self._fresh.extend(writes.keys() - self.writes.keys())
        self.writes.update(writes)

    def keys(self) -> Sequence[bytes]:
        """Every key of the batch, in order."""
        if self._fresh:
            self._order.extend(self._fresh)
            self._order.sort()
            self._fresh.clear()
        return self._order

    def within(self, start: bytes, end: bytes) -> Writes:
        """The writes with start ≤ key < end."""
        order = self.keys()
        low, high = bisect_left(order, start), bisect_left(order, end)
        writes = self.writes
        return {key: writes[key] for key in order[low:high]}


def merged_scan(
    snapshot: Snapshot,
    overlay: Mapping[bytes, bytes | None],
    start: bytes,
    end: bytes,
    limit: int,
    reverse: bool,
    keys_only: bool,
) -> list[Row]:
    """A scan of `snapshot` as if `overlay`, which holds only keys of the range, were written to it."""
    if not overlay:
        return snapshot.scan(start, end, limit, reverse, keys_only)
    if limit <= 0:
        return []
    # Each removed key can hide one row, so this many rows are enough to fill the limit.
    removed = sum(1 for value in overlay.values() if value is None)
    wanted = limit + removed
    base = snapshot.scan(start, end, wanted, reverse, keys_only)
    rows: dict[bytes, bytes] = dict(base)
    # Beyond the last row that was fetched the snapshot's rows are not known, so the overlay can't be judged there.
    last = base[-1][0] if len(base) == wanted else None
    for key, value in overlay.items():
        if last is not None and (key < last if reverse else key > last):
            continue
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = b"" if keys_only else value
    return sorted(rows.items(), reverse=reverse)[:limit]
