"""What goes into a part: a run of the catalog's rows for a base, what changed for what comes behind it.

The base is read in runs, each at a time of its own, and the changes since its beginning follow. That is enough for one
state: whatever changed after its run was read is in the feed, and is read again. Where the feed ends within the very
view that its keys are read in, the rows so far are the catalog at that view: a *point*.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from catalog.feed import UNLISTED, read_changes
from catalog.interface import Catalog, Reader, Row, View
from catalog.keys import prefix_end
from catalog.prefixes import EPOCH, SNAPSHOT
from engine.snapshots.parts import Content

#: A part is ended behind the row that brings it to this many bytes.
PART_BYTES: Final = 4 << 20
#: One view reads no more of the feed once it has this many bytes; more follows in the next.
VIEW_BYTES: Final = 8 << 20

_SCAN: Final = 256
_SLICE: Final = 256  # keys read between two turns of the event loop
_FEED_ROWS: Final = 32
_MAX_EPOCHS: Final = 10_000
_ROW_OVERHEAD: Final = 8


@dataclass(frozen=True, slots=True)
class Changes:
    """What one view gave. `position`: the feed is dealt with up to there. `point`: the view's state is complete, and a
    catalog restored from it goes on behind `ceiling`."""

    contents: list[Content]
    position: int
    point: bool
    count: int


async def base_run(catalog: Catalog, after: bytes) -> tuple[Content, bytes, bool]:
    """The next rows of the base with keys > `after`; their last key, and whether they were the last."""
    first = prefix_end(SNAPSHOT)  # what is below means nothing outside this catalog, or is told by points

    async def run(reader: Reader) -> tuple[list[Row], bool]:
        rows: list[Row] = []
        size, start = 0, max(first, after + b"\0")
        while True:
            found = await reader.scan(start, prefix_end(b""), limit=_SCAN)
            for key, value in found:
                rows.append((key, value))
                size += len(key) + len(value) + _ROW_OVERHEAD
                if size >= PART_BYTES:  # here and not behind the scan: rows may have a megabyte each
                    return rows, False
            if len(found) < _SCAN:
                return rows, True
            start = found[-1][0] + b"\0"

    rows, ended = await catalog.read(run, long=True)
    return Content(puts=rows), rows[-1][0] if rows else after, ended


def size_of(rows: Sequence[Row]) -> int:
    """About how many bytes these rows are of a part."""
    return sum(len(key) + len(value) + _ROW_OVERHEAD for key, value in rows)


async def changes_since(catalog: Catalog, position: int, *, even_none: bool = False, most: int = VIEW_BYTES) -> Changes:
    """Rows of all that changed after `position`, until there are `most` bytes of them or the feed of one view ends.
    Where nothing changed there is no content, but for `even_none` an empty one. Raises FeedTrimmed."""
    before = await catalog.sequence()
    async with catalog.view() as view:
        gathered = _Gathered(view)
        ended = False
        while not ended and gathered.size < most:
            changes = await read_changes(view, position, _FEED_ROWS)
            # Together: the event loop has its turn after so many keys, not after each commit's few.
            await gathered.add([key for change in changes for key in change.keys])
            position = changes[-1].sequence if changes else position
            ended = len(changes) < _FEED_ROWS
        if ended:
            await gathered.add(await view.unnumbered())
            position = max(position, before)
        epochs = await view.scan(EPOCH, prefix_end(EPOCH), limit=_MAX_EPOCHS) if ended else []
    contents = gathered.contents() or ([Content()] if even_none else [])
    if ended and contents:
        last = contents[-1]
        ceiling = await catalog.sequence()
        contents[-1] = Content(puts=last.puts, deletes=last.deletes, epochs=epochs, ceiling=ceiling)
    return Changes(contents, position, ended, gathered.count)


class _Gathered:
    """Rows of one view, each key once, cut into parts."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._seen: set[bytes] = set()
        self._parts: list[Content] = []
        self._part_size = 0
        self.size = 0
        self.count = 0

    async def add(self, keys: Iterable[bytes]) -> None:
        """Read what these keys hold now."""
        fresh = [key for key in dict.fromkeys(keys) if key not in self._seen and key[0] not in UNLISTED]
        self._seen.update(fresh)
        self.count += len(fresh)
        for start in range(0, len(fresh), _SLICE):
            part = fresh[start : start + _SLICE]
            values = await self._view.get_many(part)
            self._keep(part, values)
            await asyncio.sleep(0)

    def _keep(self, keys: list[bytes], values: list[bytes | None]) -> None:
        for key, value in zip(keys, values, strict=True):
            if not self._parts or self._part_size >= PART_BYTES:
                self._parts.append(Content(puts=[], deletes=[]))
                self._part_size = 0
            part = self._parts[-1]
            if value is None:
                part.deletes.append(key)
            else:
                part.puts.append((key, value))
            size = len(key) + len(value or b"") + _ROW_OVERHEAD
            self._part_size += size
            self.size += size

    def contents(self) -> list[Content]:
        return self._parts
