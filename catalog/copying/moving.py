"""A copy from its beginning to its point, and the switch: the source retires, the target takes its place.

The order of the switch is what keeps every acknowledged write and lets never more than one catalog take writes:

1. The target is brought to a point and all rows are compared, while the source goes on taking writes.
2. The gate is shut: this process commits nothing more. No other process may live, and one that did not notice that it
   was declared dead is found out at step 4.
3. The last changes are copied and read back.
4. The source retires, in one step with its mark and only if nothing was committed since: from now on nobody writes it.
5. The target loses its mark. It is held (hold.py): until the operator accepts it, the source can be gone back to.

Cut short before 4, the source goes on and the target stays a copy. Between 4 and 5 both refuse to start, and an
operator lets the target take its place, since the source says that it was whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Final

from catalog.copying.copier import Copier, CopyProgress, Point
from catalog.copying.marks import (
    COPY_KEY,
    COPY_ROW,
    MOVED_KEY,
    MOVED_ROW,
    CopyRow,
    MovedRow,
    read_marks,
    take_copy_mark,
)
from catalog.copying.movable import Movable
from catalog.copying.rows import CONSUMERS
from catalog.errors import IN_DOUBT, CatalogError, CopyRefused
from catalog.feed import CURSOR_PREFIX, FeedConsumer
from catalog.hold import put_hold
from catalog.interface import Catalog, Reader, Transaction
from catalog.keys import prefix_end
from catalog.prefixes import EPOCH, META
from core.clock import Clock
from core.crashpoints import reach

_WHY: Final = "the catalog is being moved to another place"
#: Keys that a look at the feed may give for the copy to be called up to date.
_NEAR: Final = 2_000
_LOOKS: Final = 30
_SWITCHES: Final = 3
#: Seconds for which writes may be refused before the source goes on.
SHUT_SECONDS: Final = 30.0


class SwitchUnknown(CatalogError):
    """Whether the source retired is not known; this process commits nothing more to it. Started again, it either serves
    or says where it went."""


class SwitchUnfinished(CatalogError):
    """The source retired, and the target could not be told: it has to be taken into use by hand."""


async def claim(target: Catalog, deployment: bytes) -> CopyRow:
    """Take an empty catalog, or an earlier copy of the same deployment's, as the target, in one transaction: a gateway
    that enters there at the same time (`Epochs.register`) and this one exclude each other. Raises CopyRefused,
    FutureVersion, Corrupt."""
    run = os.urandom(16)

    async def take(txn: Transaction) -> CopyRow:
        moved, mark = await read_marks(txn)
        if moved is not None:
            raise CopyRefused(f"the target was in use until it was moved to {moved.target}: give an empty one")
        if mark is None:
            if await txn.scan(prefix_end(META), prefix_end(b""), limit=1, keys_only=True):
                raise CopyRefused("the target is not empty, and no copy that could be gone on with")
            mark = CopyRow(deployment=deployment)
        elif mark.deployment != deployment:
            raise CopyRefused(f"the target holds a copy of the catalog of another deployment, {mark.deployment.hex()}")
        mark = CopyRow(deployment=deployment, sequence=mark.sequence, time_us=mark.time_us, run=run)
        txn.put(COPY_KEY, COPY_ROW.encode(mark))
        return mark

    mark = await target.transact(take)
    reach("copy-claimed")
    return mark


async def forget_positions(catalog: Catalog, is_dead: Callable[[int], bool]) -> None:
    """Let the feed be trimmed where a process died while it copied."""
    first = CURSOR_PREFIX + CONSUMERS

    async def look(reader: Reader) -> list[bytes]:
        rows = await reader.scan(first, prefix_end(first), limit=1000, keys_only=True)
        return [key for key, _ in rows if is_dead(int.from_bytes(key[len(first) :], "big"))]

    dead = await catalog.read(look)
    if dead:

        async def forget(txn: Transaction) -> None:
            for key in dead:
                txn.delete(key)

        await catalog.transact(forget)


class Move:
    """One copy from `source` to `target`; `consumer` names its position in the feed. `place` says where the target is,
    without secrets. `alone` raises CopyRefused where another process uses the source."""

    def __init__(
        self,
        source: Movable,
        target: Catalog,
        *,
        mark: CopyRow,
        consumer: bytes,
        place: str,
        clock: Clock,
        alone: Callable[[], Awaitable[None]],
        shut_seconds: float = SHUT_SECONDS,
    ) -> None:
        self._source = source
        self._target = target
        self._consumer = FeedConsumer(source, CONSUMERS + consumer)
        self._place = place
        self._clock = clock
        self._alone = alone
        self._shut_seconds = shut_seconds
        self.progress = CopyProgress()
        self._copier = Copier(source, target, mark, self.progress)
        #: Whether this process must not commit to the source any more.
        self.ended = False

    async def run(self, *, switch: bool) -> Point:
        """Copy, and with `switch` move. Raises CopyRefused, CopyDiffers, what the catalogs raise, SwitchUnknown and
        SwitchUnfinished; only after these two, or a success with `switch`, is `ended` true."""
        if switch:
            await self._alone()
        await self._consumer.unregister()  # what could not be taken away in the end of an earlier run may be trimmed
        position = await self._consumer.register()
        try:
            await self._copier.copy(position)
            reach("copy-copied")
            await self._catch_up(required=switch)
            point = await self._copier.compare()
            reach("copy-compared")
            if not switch:
                await self._copier.say_whole(point, self._clock.now_us())
                return point
            await self._catch_up(required=True)
            return await self._switch()
        finally:
            if not self.ended:
                with contextlib.suppress(CatalogError):  # the next start forgets it
                    await self._consumer.unregister()

    async def _catch_up(self, *, required: bool) -> None:
        self.progress.stage = "following"
        for _ in range(_LOOKS):
            if await self._copier.follow() <= _NEAR:
                return
            await self._consumer.advance(self._copier.position)
        if required:
            raise CopyRefused("the target takes changes more slowly than they come: switch when there is less load")

    async def _switch(self) -> Point:
        self.progress.stage = "switching"
        try:
            for _ in range(_SWITCHES):
                point = await self._settle()
                reach("copy-settled")
                if await self._end(point):
                    return point
                # A process that was taken for dead committed meanwhile: that is copied too.
            raise CopyRefused("another process goes on writing to this catalog; stop it first")
        finally:
            if not self.ended:
                self._source.gate.reopen()

    async def _settle(self) -> Point:
        """Shut the gate, and bring the target to the last point. Raises CopyRefused where that takes too long."""
        bound = asyncio.timeout(self._shut_seconds)
        try:
            async with bound:
                await self._source.gate.close(_WHY)
                point = await self._copier.settle()
                await self._copier.say_whole(point, self._clock.now_us())
                await self._alone()
                return point
        except TimeoutError:
            if not bound.expired():
                raise
            raise CopyRefused(
                f"the last step took more than {self._shut_seconds:g} s, and writes can't wait that long: this catalog "
                "goes on; see whether the target answers, or switch when there is less load"
            ) from None

    async def _end(self, point: Point) -> bool:
        """The last two steps, to their end even where the caller is cancelled. False: the source goes on."""
        ending = asyncio.ensure_future(self._retire(point))
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            await asyncio.wait((ending,))
            ending.exception()  # `ended` tells what there is to know
            raise

    async def _retire(self, point: Point) -> bool:
        moved = MovedRow(target=self._place, time_us=self._clock.now_us())
        epochs = [row for row in point.unlisted if row[0].startswith(EPOCH)]
        mark = (MOVED_KEY, MOVED_ROW.encode(moved))
        try:
            if not await self._source.retire(mark, sequence=point.sequence, unchanged=epochs):
                return False
        except IN_DOUBT as error:
            self.ended = True
            raise SwitchUnknown(
                f"{error}: this gateway ends. Start it again: it serves, or says that it was moved"
            ) from error
        self.ended = True
        reach("copy-retired")
        try:
            # Whatever was given out here is not given out again there: that went up to the point, and the mark's own.
            sequence = max(point.sequence, await self._target.sequence()) + 2
            await put_hold(self._target, moved.time_us, sequence)  # until the operator has seen that all is well
            await take_copy_mark(self._target)
        except CatalogError as error:
            raise SwitchUnfinished(
                f"the catalog was moved to {self._place}, but that could not be told there ({error}): run "
                "`atoll catalog reopen` with that catalog, then start with it"
            ) from error
        reach("copy-moved")
        return True
