"""What functions given to `read` and `transact` get to see, and how they are driven.

Both run on the event loop's thread and never suspend, so their coroutines are driven by hand, without a task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from catalog.errors import CatalogMisuse
from catalog.interface import Reader, Row
from catalog.lmdb_engine.overlay import Batch, Writes, WriteSet, merged_scan
from catalog.lmdb_engine.snapshot import Snapshot

T = TypeVar("T")
V = TypeVar("V", bound=Reader)


def drive(function: Callable[[V], Awaitable[T]], view: V) -> T:
    """Run a function to its end in one go. Raises CatalogMisuse if it suspends."""
    steps = function(view).__await__()
    try:
        next(steps)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    close = getattr(steps, "close", None)
    if close is not None:
        close()
    raise CatalogMisuse("the function awaited something else than the catalog's reader")


def look_through(batches: Sequence[Batch], snapshot: Snapshot, key: bytes) -> bytes | None:
    """The value of `key` in pending batches (newest first), else in the last durable snapshot."""
    for batch in batches:
        if key in batch.writes:
            return batch.writes[key]
    return snapshot.get(key)


class SnapshotReader:
    """A `Reader` of one snapshot."""

    __slots__ = ("_get", "_snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._get = snapshot.get

    async def get(self, key: bytes) -> bytes | None:
        return self._get(key)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return list(map(self._get, keys))

    async def scan(
        self, start: bytes, end: bytes, *, limit: int, reverse: bool = False, keys_only: bool = False
    ) -> list[Row]:
        return self._snapshot.scan(start, end, limit, reverse, keys_only)


class SteadyView(SnapshotReader):
    """A `View` of a snapshot of its own."""

    __slots__ = ()

    async def unnumbered(self) -> list[bytes]:
        return []


class OverlayTransaction(WriteSet):
    """A `Transaction` over its own writes, the pending batches (newest first) and the last durable snapshot."""

    __slots__ = ("_batches", "_snapshot")

    def __init__(self, snapshot: Snapshot, batches: Sequence[Batch]) -> None:
        super().__init__()
        self._snapshot = snapshot
        self._batches = batches

    def _get(self, key: bytes) -> bytes | None:
        if key in self.writes:
            return self.writes[key]
        return look_through(self._batches, self._snapshot, key)

    async def get(self, key: bytes) -> bytes | None:
        return self._get(key)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return list(map(self._get, keys))

    async def scan(
        self, start: bytes, end: bytes, *, limit: int, reverse: bool = False, keys_only: bool = False
    ) -> list[Row]:
        overlay: Writes = {}
        for batch in reversed(self._batches):
            overlay.update(batch.within(start, end))
        if self.writes:
            overlay.update({key: value for key, value in self.writes.items() if start <= key < end})
        return merged_scan(self._snapshot, overlay, start, end, limit, reverse, keys_only)
