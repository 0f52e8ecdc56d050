"""What was written by the last commits, to tell whether a guest's snapshot still holds."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Sequence
from typing import Final

from catalog.lmdb_engine.overlay import Batch

_MOST_BATCHES: Final = 256
_MOST_KEYS: Final = 200_000


class CommitHistory:
    """The keys of the newest commits, without their values."""

    __slots__ = ("_commits", "_floor", "_keys", "_most_batches", "_most_keys")

    def __init__(self, floor: int, *, most_batches: int = _MOST_BATCHES, most_keys: int = _MOST_KEYS) -> None:
        """`floor` is the newest sequence so far: nothing is known of what came up to it."""
        self._commits: deque[tuple[int, frozenset[bytes], Sequence[bytes]]] = deque()
        self._floor = floor
        self._keys = 0
        self._most_batches = most_batches
        self._most_keys = most_keys

    def add(self, batch: Batch) -> None:
        """The batch was committed."""
        order = batch.keys()
        self._commits.append((batch.sequence, frozenset(order), order))
        self._keys += len(order)
        while len(self._commits) > self._most_batches or self._keys > self._most_keys:
            self._floor, _, dropped = self._commits.popleft()
            self._keys -= len(dropped)

    def changed(self, since: int, reads: Collection[bytes], ranges: Sequence[tuple[bytes, bytes]]) -> bool:
        """Whether a commit after `since` wrote any of the keys, or one with start ≤ key < end of a range; also when
        that is not remembered."""
        if since < self._floor:
            return True
        for sequence, keys, order in reversed(self._commits):
            if sequence <= since:
                return False
            if not keys.isdisjoint(reads) or touches(order, ranges):
                return True
        return False


def touches(order: Sequence[bytes], ranges: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether any of these sorted keys lies in a range."""
    for start, end in ranges:
        place = bisect_left(order, start)
        if place < len(order) and order[place] < end:
            return True
    return False
