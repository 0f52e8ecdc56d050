"""What the functions given to `transact` see, and what is remembered of it for the commit.

An attempt reads outside a transaction: committed rows from the database, and over them what this process is about to
commit and what the attempt itself wrote. It remembers the version of each key and the number of rows of each range that
it was shown. The commit writes only if all of that still holds at one instant (statements.COMMIT), so an attempt that
saw rows of different instants changes nothing and runs again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from catalog.interface import Row
from catalog.limits import check_row


class Seen(NamedTuple):
    """A value with its version; None with version 0 where there is no row."""

    value: bytes | None
    version: int


class Range(NamedTuple):
    """start ≤ key < end, and how many rows it had."""

    start: bytes
    end: bytes
    rows: int


class Source(Protocol):
    """Where an attempt reads. The engine's."""

    def pending(self, key: bytes) -> Seen | None:
        """What this process is about to commit under the key."""
        ...

    def remembered(self, key: bytes) -> Seen | None:
        """What was last seen of a key that is read often."""
        ...

    async def fetch(self, keys: Sequence[bytes]) -> list[Seen]:
        """Committed rows, of one statement."""
        ...

    async def fetch_range(
        self, start: bytes, end: bytes, *, limit: int, reverse: bool, keys_only: bool
    ) -> list[tuple[bytes, bytes, int]]:
        """Committed rows with their versions, of one statement, when nothing in the range is about to be committed."""
        ...


class StaleRead(BaseException):
    """Ends a function that saw two states. No Exception, so that functions don't handle it."""


class Attempt:
    """One run of a transaction's function (see `catalog.interface.Transaction`)."""

    __slots__ = ("_may_remember", "_source", "_values", "failure", "ranges", "reads", "statements", "unsure", "writes")

    def __init__(self, source: Source, *, may_remember: bool) -> None:
        self._source = source
        self._may_remember = may_remember
        self._values: dict[bytes, bytes | None] = {}
        #: Key → version that it had.
        self.reads: dict[bytes, int] = {}
        self.ranges: list[Range] = []
        self.writes: dict[bytes, bytes | None] = {}
        self.statements = 0
        #: Something was shown that is not known to be committed and current.
        self.unsure = False
        #: What a read failed with; the function's own end doesn't count then.
        self.failure: Exception | None = None

    @property
    def holds(self) -> bool:
        """Whether what was shown was true at one instant, without asking again."""
        return self.statements <= 1 and not self.unsure

    async def get(self, key: bytes) -> bytes | None:
        if key in self.writes:
            return self.writes[key]
        if key in self._values:
            return self._values[key]
        seen = self._at_hand(key)
        if seen is None:
            seen = (await self._fetch((key,)))[0]
        return self._show(key, seen)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        wanted: list[bytes] = []
        for key in dict.fromkeys(keys):
            if key in self.writes or key in self._values:
                continue
            seen = self._at_hand(key)
            if seen is None:
                wanted.append(key)
            else:
                self._show(key, seen)
        if wanted:
            for key, seen in zip(wanted, await self._fetch(wanted), strict=True):
                self._show(key, seen)
        return [self.writes[key] if key in self.writes else self._values[key] for key in keys]

    async def scan(
        self, start: bytes, end: bytes, *, limit: int, reverse: bool = False, keys_only: bool = False
    ) -> list[Row]:
        if limit <= 0 or start >= end:
            return []
        own = sorted(key for key in self.writes if start <= key < end)
        # As many more as own writes may hide.
        wanted = limit + len(own)
        self.statements += 1
        try:
            rows = await self._source.fetch_range(start, end, limit=wanted, reverse=reverse, keys_only=keys_only)
        except Exception as error:
            self.failure = error
            raise
        for key, value, version in rows:
            if self.reads.setdefault(key, version) != version:
                raise StaleRead
            if not keys_only:
                self._values[key] = value
        if len(rows) == wanted:
            # Only what the scan went over can change its result.
            last = rows[-1][0]
            start, end = (last, end) if reverse else (start, last + b"\x00")
        self.ranges.append(Range(start, end, len(rows)))
        if not own:
            return [(key, value) for key, value, _ in rows][:limit]
        return self._merged(rows, own[bisect_left(own, start) : bisect_left(own, end)], limit, reverse, keys_only)

    def put(self, key: bytes, value: bytes) -> None:
        check_row(key, value)
        self.writes[key] = value

    def delete(self, key: bytes) -> None:
        check_row(key, b"")
        self.writes[key] = None

    def _merged(
        self, rows: list[tuple[bytes, bytes, int]], own: list[bytes], limit: int, reverse: bool, keys_only: bool
    ) -> list[Row]:
        merged: dict[bytes, bytes | None] = {key: value for key, value, _ in rows}
        for key in own:
            value = self.writes[key]
            merged[key] = b"" if keys_only and value is not None else value
        ordered = sorted(merged, reverse=reverse)
        return [(key, value) for key in ordered if (value := merged[key]) is not None][:limit]

    def _at_hand(self, key: bytes) -> Seen | None:
        # A row that a scan without values went over has a version already: it must be the same row.
        seen = self._source.pending(key)
        if seen is None and self._may_remember:
            seen = self._source.remembered(key)
        if seen is not None:
            self.unsure = True
        return seen

    async def _fetch(self, keys: Sequence[bytes]) -> list[Seen]:
        self.statements += 1
        try:
            return await self._source.fetch(keys)
        except Exception as error:
            self.failure = error
            raise

    def _show(self, key: bytes, seen: Seen) -> bytes | None:
        if self.reads.setdefault(key, seen.version) != seen.version:
            raise StaleRead
        self._values[key] = seen.value
        return seen.value
