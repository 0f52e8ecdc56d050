"""The change feed: its rows, how engines write and read them, and who keeps them from being trimmed.

Row: FEED ‖ u64 sequence → record of the commit's time and the keys that it wrote or removed. A commit that touched
only coordination rows (META, FEED, LEASE, EPOCH, SNAPSHOT) has no row. The row META ‖ "feed/trimmed" holds the
sequence up to which rows are gone; META ‖ "feed/cursor/" ‖ name the sequence up to which a registered consumer has
read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from catalog.errors import FeedTrimmed
from catalog.interface import Catalog, Change, Reader, Row, Transaction
from catalog.keys import prefix_end, read_u64, u64
from catalog.prefixes import EPOCH, FEED, LEASE, META, SNAPSHOT
from catalog.records import Codec, Record
from core.clock import Clock
from core.workers import WorkerReport, WorkerState

#: First bytes of keys that the feed does not list: they mean nothing outside this catalog.
UNLISTED: Final = frozenset((META[0], FEED[0], LEASE[0], EPOCH[0], SNAPSHOT[0]))

TRIMMED_KEY: Final = META + b"feed/trimmed"
CURSOR_PREFIX: Final = META + b"feed/cursor/"

_TRIM_ROWS: Final = 256


class FeedRow(Record, tag=1, kw_only=True, frozen=True):
    """What one feed row holds: wall-clock microseconds of the commit, and the keys in the order of writing."""

    time_us: int
    keys: tuple[bytes, ...]


class FeedRowTime(Record, tag=1, kw_only=True, frozen=True):
    """The beginning of a feed row, for reading many times without all the keys."""

    time_us: int


FEED_ROW: Final = Codec(FeedRow)
_read_time: Final = msgspec.msgpack.Decoder(FeedRowTime).decode


#: How rows of today's form begin, without flags; any other is decoded, or refused, before anything is said of it.
_PLAIN: Final = FEED_ROW.encode(FeedRow(time_us=0, keys=()))[:3]


class FeedChange(msgspec.Struct, frozen=True, gc=False):
    """One entry of the feed (see `catalog.interface.Change`). Its keys are decoded when they are asked for: most who
    follow the feed look for a few keys among very many."""

    sequence: int
    row: bytes

    @property
    def keys(self) -> Sequence[bytes]:
        return FEED_ROW.decode(self.row).keys

    def under(self, prefix: bytes) -> Sequence[bytes]:
        if self.row.startswith(_PLAIN) and prefix not in self.row:  # the keys lie in it as they are
            return ()
        return [key for key in self.keys if key.startswith(prefix)]


def feed_row(sequence: int, time_us: int, keys: Iterable[bytes]) -> Row | None:
    """The row that an engine writes with commit `sequence`; None when none of the keys is listed."""
    listed = tuple([key for key in keys if key[0] not in UNLISTED])
    if not listed:
        return None
    return FEED + u64(sequence), FEED_ROW.encode(FeedRow(time_us=time_us, keys=listed))


async def read_changes(reader: Reader, after: int, limit: int) -> list[Change]:
    """Entries with sequence > `after`, oldest first, at most `limit`. Raises FeedTrimmed."""
    trimmed = await reader.get(TRIMMED_KEY)
    return changes_of(await reader.scan(FEED + u64(after + 1), prefix_end(FEED), limit=limit), trimmed, after)


def changes_of(rows: Iterable[Row], trimmed: bytes | None, after: int) -> list[Change]:
    """The entries that these feed rows hold, all behind `after`; `trimmed` is the value under TRIMMED_KEY in the same
    snapshot. Raises FeedTrimmed."""
    if after < _sequence(trimmed):
        raise FeedTrimmed(_sequence(trimmed))
    return [FeedChange(read_u64(key, 1)[0], value) for key, value in rows]


class FeedConsumer:
    """A named reader of the feed whose position is kept in the catalog, so that trimming waits for it."""

    def __init__(self, catalog: Catalog, name: bytes) -> None:
        self._catalog = catalog
        self._key = CURSOR_PREFIX + name

    async def register(self) -> int:
        """The consumer's position: of its last `advance`, or now when it is new."""
        now = await self._catalog.sequence()

        async def register(txn: Transaction) -> int:
            stored = await txn.get(self._key)
            if stored is not None:
                return _sequence(stored)
            position = max(now, _sequence(await txn.get(TRIMMED_KEY)))
            txn.put(self._key, u64(position))
            return position

        return await self._catalog.transact(register)

    async def advance(self, sequence: int) -> None:
        """Everything up to `sequence` is dealt with."""

        async def advance(txn: Transaction) -> None:
            self.move(txn, sequence)

        await self._catalog.transact(advance)

    def move(self, txn: Transaction, sequence: int) -> None:
        """`advance` within the caller's transaction."""
        txn.put(self._key, u64(sequence))

    async def unregister(self) -> None:
        """Forget the position; trimming no longer waits."""

        async def unregister(txn: Transaction) -> None:
            txn.delete(self._key)

        await self._catalog.transact(unregister)


class FeedTrimmer:
    """Worker that removes feed rows older than `keep_seconds` that every registered consumer has passed, and rows
    older than `max_seconds` in any case (a consumer left behind then gets FeedTrimmed)."""

    def __init__(
        self,
        catalog: Catalog,
        clock: Clock,
        *,
        keep_seconds: float = 10,
        max_seconds: float = 86_400,
        interval: float = 2,
    ) -> None:
        self.name = "feed-trim"
        self.interval = interval
        self._catalog = catalog
        self._clock = clock
        self._keep_us = int(keep_seconds * 1e6)
        self._max_us = int(max_seconds * 1e6)
        self._trimmed = 0

    async def turn(self) -> WorkerState:
        """Trim up to a few hundred rows."""
        now = self._clock.now_us()

        async def plan(reader: Reader) -> tuple[list[Row], int | None]:
            cursors = await reader.scan(CURSOR_PREFIX, prefix_end(CURSOR_PREFIX), limit=1000)
            slowest = min((_sequence(value) for _, value in cursors), default=None)
            return await reader.scan(FEED, prefix_end(FEED), limit=_TRIM_ROWS), slowest

        rows, slowest = await self._catalog.read(plan)
        old: list[bytes] = []
        for key, value in rows:
            age = now - _read_time(value).time_us
            passed = slowest is None or read_u64(key, 1)[0] <= slowest
            if not (age > self._max_us or (age > self._keep_us and passed)):
                break
            old.append(key)
        if not old:
            return WorkerState.IDLE

        async def trim(txn: Transaction) -> None:
            through = read_u64(old[-1], 1)[0]
            if through > _sequence(await txn.get(TRIMMED_KEY)):
                txn.put(TRIMMED_KEY, u64(through))
            for key in old:
                txn.delete(key)

        await self._catalog.transact(trim)
        self._trimmed += len(old)
        return WorkerState.BUSY if len(old) == _TRIM_ROWS else WorkerState.IDLE

    def report(self) -> WorkerReport:
        return WorkerReport(counters={"trimmed": self._trimmed})


def _sequence(value: bytes | None) -> int:
    return int.from_bytes(value, "big") if value is not None else 0
