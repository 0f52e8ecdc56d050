"""Making one catalog hold what another one holds, while that one is written to.

The target is gone over in runs, each compared with the same range of the source as it is at that time; what differs is
written, so that a copy which was cut short goes on where it was without writing anything twice. What the source changed
meanwhile is in its feed and is read again. Where the feed ends within the view that its keys are read in, the target
holds what the view shows: a *point*. At a point all rows of both are compared. From one point to the next, which takes
only as long as there are changes, what is written is read back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from catalog.copying.marks import CopyRow, put_copy_mark, read_marks
from catalog.copying.rows import END, LISTED, RUN, runs, scan_of, scan_within, size_of, unlisted_rows
from catalog.errors import CopyDiffers, CopyRefused, FeedTrimmed
from catalog.feed import UNLISTED, read_changes
from catalog.interface import Catalog, Reader, Row, Transaction, View
from core.crashpoints import reach

_FEED_ROWS: Final = 64
_SHOWN: Final = 48  # bytes of a key in an error


@dataclass(slots=True)
class CopyProgress:
    """What an operator sees. `stage`: copying, following, comparing, switching. `rows` and `bytes`: gone over so far;
    `written`, `removed`: in the target; `followed`: keys of the feed that were read again, written and read back;
    `compared`: rows of the last comparison."""

    stage: str = "copying"
    rows: int = 0
    bytes: int = 0
    written: int = 0
    removed: int = 0
    followed: int = 0
    compared: int = 0


@dataclass(frozen=True, slots=True)
class Point:
    """A state of the source that the target was found to hold: all commits up to `sequence`. `unlisted`: those of its
    rows that the feed does not list."""

    sequence: int
    unlisted: Sequence[Row]


class Copier:
    """One run of a copy. `mark` is in the target already."""

    def __init__(self, source: Catalog, target: Catalog, mark: CopyRow, progress: CopyProgress) -> None:
        self._source = source
        self._target = target
        self._mark = mark
        self._position = 0
        self.progress = progress

    @property
    def position(self) -> int:
        """All changes up to there have been written."""
        return self._position

    async def copy(self, position: int) -> None:
        """Go over everything once. `position`: of the source's feed, before; it is kept from there on."""
        self._position = position
        await self._say_not_whole()
        async for rows, start, end in runs(scan_of(self._source), LISTED, END):
            await self._make_equal(rows, start, end)
            self.progress.rows += len(rows)
            self.progress.bytes += size_of(rows)
            reach("copy-run")
            await asyncio.sleep(0)

    async def follow(self) -> int:
        """Write what changed since, and read it back; how many keys that were. Raises CopyDiffers, and CopyRefused
        where the feed is not kept that long."""
        before = await self._source.sequence()
        async with self._source.view() as view:
            return await self._follow(view, before)

    async def compare(self) -> Point:
        """Bring the target to a point and compare all rows. Raises as `follow`."""
        await self._say_not_whole()
        before = await self._source.sequence()
        async with self._source.view() as view:
            self.progress.stage = "following"
            await self._follow(view, before)
            unlisted = await self._put_unlisted(view)
            self.progress.stage = "comparing"
            await self._compare(view)
        return Point(before, unlisted)

    async def settle(self) -> Point:
        """Bring a target that was compared to a later point. Raises as `follow`."""
        await self._say_not_whole()
        before = await self._source.sequence()
        async with self._source.view() as view:
            await self._follow(view, before)
            return Point(before, await self._put_unlisted(view))

    async def say_whole(self, point: Point, now_us: int) -> None:
        """Note in the target that it holds this point."""
        await self._target.load([], sequence=max(point.sequence, await self._target.sequence()))
        await self._note(max(point.sequence, 1), now_us)

    async def _say_not_whole(self) -> None:
        if self._mark.sequence:
            await self._note(0, 0)

    async def _note(self, sequence: int, time_us: int) -> None:
        self._mark = CopyRow(
            deployment=self._mark.deployment, sequence=sequence, time_us=time_us, run=self._mark.run
        )  # fmt: skip
        await put_copy_mark(self._target, self._mark)

    # --- following ---

    async def _follow(self, view: View, before: int) -> int:
        count = 0
        while True:
            try:
                changes = await read_changes(view, self._position, _FEED_ROWS)
            except FeedTrimmed:
                raise CopyRefused(
                    "the copy took longer than changes are kept in the feed: copy again, which is faster, for what is "
                    "there already is not written again"
                ) from None
            count += await self._read_again(view, [key for change in changes for key in change.keys])
            if changes:
                self._position = changes[-1].sequence
            if len(changes) < _FEED_ROWS:
                break
        count += await self._read_again(view, await view.unnumbered())
        self._position = max(self._position, before)
        return count

    async def _read_again(self, view: Reader, keys: Iterable[bytes]) -> int:
        """Let the target hold what the view shows under these keys; read back."""
        fresh = sorted({key for key in keys if key[0] not in UNLISTED})
        for at in range(0, len(fresh), RUN):
            part = fresh[at : at + RUN]
            pairs = list(zip(part, await view.get_many(part), strict=True))
            wanted = [(key, value) for key, value in pairs if value is not None]
            await self._write(wanted, [key for key, value in pairs if value is None])
            _require_same(wanted, await self._present(part))
            self.progress.followed += len(part)
            await asyncio.sleep(0)
        return len(fresh)

    async def _present(self, keys: Sequence[bytes]) -> list[Row]:
        """What the target has under these keys."""

        async def get(reader: Reader) -> list[bytes | None]:
            return await reader.get_many(keys)

        values = await self._target.read(get)
        return [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]

    async def _put_unlisted(self, view: Reader) -> Sequence[Row]:
        """Let the target hold those rows of the view that the feed does not list; read back."""
        rows = await unlisted_rows(scan_within(view))
        present = dict(await unlisted_rows(scan_of(self._target)))
        wanted = dict(rows)
        await self._write(
            [row for row in rows if present.get(row[0]) != row[1]], [key for key in present if key not in wanted]
        )
        _require_same(rows, await unlisted_rows(scan_of(self._target)))
        return rows

    # --- writing ---

    async def _make_equal(self, rows: Sequence[Row], start: bytes, end: bytes) -> None:
        """Let the target hold these rows, and no others, in the range."""
        wanted = dict(rows)
        same: set[bytes] = set()
        async for found, _, _ in runs(scan_of(self._target), start, end, first=len(rows) + 1):
            same.update([key for key, value in found if wanted.get(key) == value])
            await self._write((), [key for key, _ in found if key not in wanted])
        await self._write([row for row in rows if row[0] not in same], ())

    async def _write(self, puts: Sequence[Row], deletes: Sequence[bytes]) -> None:
        if not puts and not deletes:
            return
        if (await self._target.read(read_marks))[1] != self._mark:
            raise CopyRefused("somebody took the target into use, or copies to it too")
        if puts:
            await self._target.load(puts, sequence=0)
        if deletes:

            async def delete(txn: Transaction) -> None:
                for key in deletes:
                    txn.delete(key)

            await self._target.transact(delete)
        self.progress.written += len(puts)
        self.progress.removed += len(deletes)

    # --- comparing ---

    async def _compare(self, view: View) -> None:
        """Compare all rows that the feed lists, value by value. Raises CopyDiffers."""
        self.progress.compared = 0
        theirs = scan_of(self._target)
        async for rows, start, end in runs(scan_within(view), LISTED, END):
            # One row more than there should be tells as much as all that there are.
            _require_same(rows, await theirs(start, end, len(rows) + 1))
            self.progress.compared += len(rows)
            await asyncio.sleep(0)


def _require_same(ours: Sequence[Row], theirs: Sequence[Row]) -> None:
    if ours == theirs:
        return
    one, other = dict(ours), dict(theirs)
    key = min(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    what = "is missing in the copy" if key not in other else "is only in the copy" if key not in one else "differs"
    raise CopyDiffers(
        f"the row {key[:_SHOWN].hex()} {what}; the copy can't be used: copy again, which mends it, and find out why"
    )
