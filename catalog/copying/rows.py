"""Which rows are copied, and how two catalogs are read side by side.

A copy has every row but these: the change feed, which begins anew; where it is trimmed; the positions of copies that
are under way; and the marks of the catalog itself. The rows under META, LEASE, EPOCH and SNAPSHOT, which the feed does
not list, are few: they are copied whole at each point.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from catalog.copying.marks import COPY_KEY, MOVED_KEY
from catalog.feed import CURSOR_PREFIX, TRIMMED_KEY, UNLISTED
from catalog.interface import Catalog, Reader, Row
from catalog.keys import prefix_end
from catalog.prefixes import FEED, LEASE

#: Positions of running copies in their source's feed: this ‖ the epoch of the process that copies.
CONSUMERS: Final = b"copy/"

#: Rows below are not in the feed, rows from here on are.
LISTED: Final = bytes((max(UNLISTED) + 1,))
END: Final = prefix_end(b"")

#: The most rows in one read of either catalog, and in one write.
RUN: Final = 500
_FIRST_RUN: Final = 64
#: About so many bytes a run should have: next to each other, rows are mostly of one kind and size.
_RUN_BYTES: Final = 2 << 20

#: Up to so many rows of start ≤ key < end.
Scan = Callable[[bytes, bytes, int], Awaitable[list[Row]]]


def is_copied(key: bytes) -> bool:
    """Whether a row under META belongs into a copy."""
    return key not in (TRIMMED_KEY, MOVED_KEY, COPY_KEY) and not key.startswith(CURSOR_PREFIX + CONSUMERS)


def scan_of(catalog: Catalog) -> Scan:
    """A scan that reads what is newest, each time."""

    async def scan(start: bytes, end: bytes, limit: int) -> list[Row]:
        async def rows(reader: Reader) -> list[Row]:
            return await reader.scan(start, end, limit=limit)

        return await catalog.read(rows)

    return scan


def scan_within(reader: Reader) -> Scan:
    """A scan of one view."""

    async def scan(start: bytes, end: bytes, limit: int) -> list[Row]:
        return await reader.scan(start, end, limit=limit)

    return scan


async def runs(
    scan: Scan, start: bytes, end: bytes, *, first: int = _FIRST_RUN
) -> AsyncIterator[tuple[list[Row], bytes, bytes]]:
    """All rows of a range in runs, each with the range that it covers; an empty run for an empty range. The first has
    up to `first` rows."""
    limit = first
    while True:
        rows = await scan(start, end, limit)
        full = len(rows) == limit
        after = rows[-1][0] + b"\0" if full else end
        yield rows, start, after
        if not full:
            return
        start = after
        limit = min(RUN, 2 * limit, max(1, limit * _RUN_BYTES // (size_of(rows) + 1)))


def size_of(rows: Sequence[Row]) -> int:
    """Bytes of their keys and values."""
    return sum([len(key) + len(value) for key, value in rows])


async def unlisted_rows(scan: Scan) -> list[Row]:
    """The rows that the feed does not list and that a copy has, in order."""
    found: list[Row] = []
    for start, end in ((b"", FEED), (LEASE, LISTED)):
        async for rows, _, _ in runs(scan, start, end):
            found += [row for row in rows if is_copied(row[0])]
    return found
