"""Commit sequences: given after the commit, to commits that everybody can see already.

A commit leaves a row in the outbox, under an id that collides with nobody's. Numbering is a second, short transaction:
look at the newest number and at the outbox in one snapshot, then, *only if the number is still the same*, count it up
and move what was seen into the feed. So a number is only given to commits that are visible by then, numbers are given
one after another, and a reader that knows number n can never meet a commit that is numbered below n later. See
docs/decisions for the argument in full.

Every gateway may number at any time. Whoever loses a turn to another looks less often, so one of several does most of
the work without being appointed, and when it dies the others go on at their next look, in less than half a second.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from catalog.errors import CatalogClosed, CatalogError
from catalog.feed import FEED_ROW, FeedRow
from catalog.keys import u64
from catalog.postgres_engine import statements
from catalog.postgres_engine.batch import decode_keys
from catalog.postgres_engine.database import Database
from catalog.postgres_engine.failures import is_conflict, is_lost, translate
from catalog.postgres_engine.identities import Identities
from catalog.prefixes import FEED
from catalog.waiters import SequenceWaiters

log = logging.getLogger("atoll.catalog")

_SHORTEST: Final = 0.05  # seconds between two looks while this process numbers commits
_FOLLOWING: Final = 0.1  # while another one does
_LONGEST: Final = 0.15  # while nothing happens, or turns are lost
_GROWTH: Final = 1.5
_RECENT_US: Final = 5_000_000  # what a usual look goes back
_WHOLE_SECONDS: Final = 2.0  # a look at everything, for commits that took long
_ROWS: Final = 500  # of each shard, in one look
_FEED_BYTES: Final = 64 << 10  # keys in one feed row, unless one commit has more
_FORGET_SECONDS: Final = 5.0
_KEEP_US: Final = 600_000_000  # numbered ids are kept longer than anybody asks what became of a commit
_FORGET_ROWS: Final = 2000


@dataclass(slots=True)
class SequencerCounters:
    """Since the catalog was opened: looks, turns that this process won, turns lost to another gateway."""

    looks: int = 0
    won: int = 0
    lost: int = 0


class Sequencer:
    """Numbers commits and knows the newest number. Belongs to the event loop's thread."""

    def __init__(self, database: Database, identities: Identities, number: int) -> None:
        self._database = database
        self._identities = identities
        #: The newest number that this process has seen committed.
        self.number = number
        self._seen = number  # in the last look
        self.changed = SequenceWaiters()
        self.counters = SequencerCounters()
        self._interval = _SHORTEST
        self._penalty = 0.0  # an interval at least this long, for turns that were lost
        self._due: asyncio.TimerHandle | None = None  # the look that a commit of this process asked for
        self._commits = 0  # of this process
        self._numbered = 0  # as many of them have a number for certain
        self._wanted = 0  # looks asked for
        self._done = 0  # looks asked for and done
        self._looked = SequenceWaiters()
        self._wake = asyncio.Event()
        self._closed = False
        #: Of the last look; None while the database answers.
        self.error: CatalogError | None = None
        self._last_whole = self._last_forget = float("-inf")
        self._random = random.Random()  # noqa: S311
        self._task = asyncio.create_task(self._work(), name="catalog sequence")

    def committed(self) -> None:
        """This process committed, and that has no number yet."""
        self._commits += 1
        if self._due is None:
            delay = max(_SHORTEST, self._penalty)
            self._due = asyncio.get_running_loop().call_later(delay, self._wake.set)

    async def catch_up(self) -> None:
        """Until all that this process has committed by now has a number. Raises as `look`."""
        commits = self._commits
        while self._numbered < commits:
            if self._closed:
                raise CatalogClosed("the catalog is closed")
            await self._looked.wait()
            if self.error is not None:
                raise self.error

    async def look(self) -> int:
        """Number all that is committed by now; the newest number. Raises CatalogUnavailable, CatalogClosed."""
        self._wanted += 1
        mine = self._wanted
        self._wake.set()
        while self._done < mine:
            if self._closed:
                raise CatalogClosed("the catalog is closed")
            await self._looked.wait()
            if self.error is not None and self._done >= mine:
                raise self.error
        return self.number

    def hear(self, number: int) -> None:
        """Somebody committed this number."""
        if number > self.number:
            self.number = number
            self.changed.wake()

    async def close(self) -> None:
        """End; whoever waits gets CatalogClosed."""
        self._closed = True
        if self._due is not None:
            self._due.cancel()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._looked.wake()
        self.changed.wake()

    async def _work(self) -> None:
        while True:
            wanted = self._wanted
            self._wake.clear()
            if self._due is not None:
                self._due.cancel()
                self._due = None
            try:
                await self._look_around(asked=wanted > self._done)
                self.error = None
            except Exception as error:
                self._fail(error)
            self._done = wanted
            self._looked.wake()
            if self._wanted == wanted:
                await self._sleep()

    async def _look_around(self, *, asked: bool) -> None:
        """What is due: a turn, and forgetting."""
        now = asyncio.get_running_loop().time()
        whole = asked or now - self._last_whole > _WHOLE_SECONDS
        commits = self._commits
        await self._turn(whole)
        self._numbered = commits
        if whole:
            self._last_whole = now
        if now - self._last_forget > _FORGET_SECONDS:
            self._last_forget = now
            await self._forget()

    def _fail(self, error: Exception) -> None:
        """Nothing ends the sequencer: what went wrong is told to whoever asks, and tried again."""
        if not isinstance(error, CatalogError):
            log.error("numbering commits failed", exc_info=error)
            error = translate(error)
        elif self.error is None:
            log.warning("commits are not numbered: %s", error)
        self.error = error
        self._interval = _LONGEST

    async def _sleep(self) -> None:
        """Until the next look is due, or wanted."""
        pause = max(self._interval, self._penalty) * self._random.uniform(0.7, 1)
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _turn(self, whole: bool) -> None:
        """Look, and number what is found, until all that was committed before this has a number."""
        before, won = self.number, False
        start = 0 if whole else self._identities.now_us() - _RECENT_US
        while found := await self._look(start):
            if await self._number(found):
                won = True
                self.counters.won += 1
                self._penalty = 0.0
                if len(found) < _ROWS:
                    break
            else:
                self.counters.lost += 1
                self._penalty = min(max(self._penalty * 2, _FOLLOWING), _LONGEST)
        if won:
            self._interval = _SHORTEST
        elif self.number > before:
            self._interval = _FOLLOWING
        else:
            self._interval = min(self._interval * _GROWTH, _LONGEST)

    async def _look(self, start_us: int) -> list[Any]:
        loop = asyncio.get_running_loop()
        lows, highs = Identities.ranges(start_us)
        asked = loop.time()
        rows = await self._database.fetch(statements.LOOK, lows, highs, _ROWS)
        self.counters.looks += 1
        self._identities.hear(rows[0][1], asked, loop.time())
        self._seen = rows[0][0]
        self.hear(self._seen)
        return [row for row in rows if row[2] is not None]

    async def _number(self, rows: Sequence[Any]) -> bool:
        """Number these, behind the number that was seen with them. False when somebody else was faster."""
        ordered = sorted(rows, key=lambda row: Identities.order(row[2]))
        number, keys, values = self._seen, [], []
        for listed in _groups(ordered):
            number += 1
            if listed:
                keys.append(FEED + u64(number))
                values.append(FEED_ROW.encode(FeedRow(time_us=self._identities.now_us(), keys=tuple(listed))))
        version = self._random.getrandbits(62) + 1
        identities, voids = [row[2] for row in ordered], [row[4] for row in ordered]
        try:
            won = await self._database.once(
                statements.NUMBER, self._seen, number, identities, voids, keys, values, version
            )
        except CatalogError:
            raise
        except Exception as error:
            if is_conflict(error) or is_lost(error):
                return False  # whether a turn whose connection broke happened, the next look shows
            raise translate(error) from None
        if won:
            self.hear(number)
        return bool(won)

    async def _forget(self) -> None:
        lows, highs = Identities.ranges(0, self._identities.now_us() - _KEEP_US)
        await self._database.fetch(statements.FORGET, lows, highs, _FORGET_ROWS)


def _groups(rows: Sequence[Any]) -> list[list[bytes]]:
    """The keys of commits in order, several commits together as long as they are few."""
    groups: list[list[bytes]] = []
    size = 0
    for row in rows:
        listed = decode_keys(row[3]) if row[3] else []
        length = len(row[3])
        if not groups or (size and size + length > _FEED_BYTES):
            groups.append([])
            size = 0
        groups[-1] += listed
        size += length
    return groups
