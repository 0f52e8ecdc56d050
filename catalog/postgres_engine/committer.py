"""The way of transactions into the database: gathered while a commit is under way, then sent as one.

Where the outcome of a commit is unknown, it is found out: another row is put in the place of its announcement, which
either finds it there or keeps it from ever happening. Only while the database stays out of reach longer than callers
may wait are they told CommitUnknown; then nothing is read or written by this process before it is settled.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from catalog.errors import CatalogClosed, CatalogError, CatalogUnavailable, CommitUnknown, Conflict
from catalog.postgres_engine import statements
from catalog.postgres_engine.attempt import Attempt, Seen
from catalog.postgres_engine.batch import Batch, Member
from catalog.postgres_engine.database import Database
from catalog.postgres_engine.failures import is_conflict, is_lost, is_taken, translate
from catalog.postgres_engine.identities import Identities
from catalog.waiters import SequenceWaiters

_MEMBERS: Final = 256
_BYTES: Final = 8 << 20
_CONFLICTS: Final = 100  # of one batch, in a row


@dataclass(slots=True)
class CommitCounters:
    """Since the catalog was opened. `collisions`: statements that the database refused as not serializable and that
    were sent again. `stale`: transactions that ran again because what they had read did not hold. `resolved`: commits
    with a lost connection whose outcome was found out."""

    transactions: int = 0
    statements: int = 0
    collisions: int = 0
    stale: int = 0
    resolved: int = 0
    unknown: int = 0


class Committer:
    """All commits of one process. Methods belong to the event loop's thread. `announce` is told of each commit."""

    def __init__(
        self, commits: Database, reads: Database, identities: Identities, announce: Callable[[Batch], None]
    ) -> None:
        self._commits = commits
        self._reads = reads
        self._identities = identities
        self._announce = announce
        self._gathering = Batch()
        self._flying: Batch | None = None
        self._start = asyncio.Event()
        self._landed = SequenceWaiters()
        self._reading: set[Attempt] = set()  # attempts that run
        self._awaited: set[Attempt] = set()  # those of them that the next commit waits for
        self._complete = asyncio.Event()  # it waits for none any more
        self._blocked = 0  # attempts that wait for a commit
        self._duration = 0.0  # seconds that the last commit took
        self._unsettled: dict[bytes, None] = {}
        self._closing = False
        self._random = random.Random()  # noqa: S311 - versions need to differ, not to be secret
        self.counters = CommitCounters()
        self._task = asyncio.create_task(self._work(), name="catalog commits")

    # --- for attempts ---

    def begin(self, attempt: Attempt) -> None:
        """An attempt runs from now on, until `end`."""
        self._reading.add(attempt)

    def end(self, attempt: Attempt) -> None:
        """It has joined, or won't."""
        self._reading.discard(attempt)
        if attempt in self._awaited:
            self._awaited.discard(attempt)
            if not self._awaited:
                self._complete.set()

    def pending(self, key: bytes) -> Seen | None:
        """What is about to be committed under the key."""
        seen = self._gathering.writes.get(key)
        if seen is None and self._flying is not None:
            seen = self._flying.writes.get(key)
        return seen

    async def wait_for_range(self, start: bytes, end: bytes) -> None:
        """Until nothing in the range is about to be committed."""
        while self._gathering.touches(start, end) or (self._flying is not None and self._flying.touches(start, end)):
            await self._land()

    async def _land(self) -> None:
        """Until the next commit has ended, which waits for no attempt meanwhile: it may be this one's."""
        self._blocked += 1
        self._complete.set()
        try:
            await self._landed.wait()
        finally:
            self._blocked -= 1

    async def join(self, attempt: Attempt) -> asyncio.Future[bool] | None:
        """Add an attempt to the next commit; None when it is stale already. The future tells whether it was committed,
        or raises what kept the commit from happening, or CommitUnknown."""
        while True:
            if self._closing:
                raise CatalogClosed("the catalog is closed")
            if not self._fits(attempt):
                await self._land()
                continue
            break
        if not self._gathering.admits(attempt) or not self._admitted_in_flight(attempt):
            return None
        member = Member(attempt, self._random.getrandbits(62) + 1, asyncio.get_running_loop().create_future())
        self._gathering.add(member)
        if self._flying is None:
            # Others that are ready in this turn of the loop come along.
            asyncio.get_running_loop().call_soon(self._start.set)
        return member.outcome

    def _fits(self, attempt: Attempt) -> bool:
        gathering = self._gathering
        return not gathering.members or (len(gathering.members) < _MEMBERS and gathering.bytes < _BYTES)

    def _admitted_in_flight(self, attempt: Attempt) -> bool:
        """Whether the reads can hold once the commit under way is done."""
        flying = self._flying
        if flying is None:
            return True
        for key, version in attempt.reads.items():
            if key in self._gathering.writes:
                continue
            written = flying.writes.get(key)
            if written is not None and written.version != version:
                return False
        return not any(flying.touches(one.start, one.end) for one in attempt.ranges)

    # --- the way ---

    async def _work(self) -> None:
        while True:
            await self._start.wait()
            self._start.clear()
            while self._gathering.members:
                await self._wait_for_readers()
                batch, self._gathering = self._gathering, Batch()
                self._flying = batch
                try:
                    await self._commit(batch)
                except Exception as error:
                    _fail(batch, error if isinstance(error, CatalogError) else translate(error))
                except BaseException:
                    _fail(batch, CommitUnknown("the catalog was closed while a commit was under way"))
                    raise
                finally:
                    self._flying = None
                    self._landed.wake()

    async def _wait_for_readers(self) -> None:
        """Let the attempts come along that are about to end, for each would have a commit of its own after this one:
        those that wait for their first read, and no longer than a commit takes."""
        self._awaited = {attempt for attempt in self._reading if attempt.statements <= 1}
        if self._awaited and self._duration and not self._blocked:
            self._complete.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._duration):
                    await self._complete.wait()
        self._awaited = set()

    async def _commit(self, batch: Batch) -> None:
        backoff = self._commits.backoff()
        identity = self._identities.new()
        conflicts = 0
        explain = False
        loop = asyncio.get_running_loop()
        while batch.members:
            began = loop.time()
            statement = self.counters.statements
            try:
                rows = await self._commits.once(
                    statements.COMMIT, *batch.arguments(identity, explain=explain), on_send=self._count
                )
            except CatalogError:
                raise
            except Exception as error:
                if is_taken(error) and not explain:
                    explain = True
                    continue
                if is_conflict(error):
                    conflicts += 1
                    self.counters.collisions += 1
                    if conflicts >= _CONFLICTS:
                        raise Conflict(f"the transaction collided {conflicts} times") from None
                    await asyncio.sleep(self._random.uniform(0, min(0.001 * 2**conflicts, 0.05)))
                    continue
                if not is_lost(error):
                    raise translate(error) from None
                sent = self.counters.statements > statement
                if not (sent and batch.writes and await self._happened(identity, error)):
                    if backoff.over:
                        raise translate(error) from None
                    identity = self._identities.new()  # the other one's place is taken
                    await backoff.pause()
                    continue
                rows = [((), ())]
            keys, ranges = rows[0][0], rows[0][1]
            if not keys and not ranges:
                self._duration = loop.time() - began
                self._succeed(batch)
                return
            for member in batch.expel(keys, [place - 1 for place in ranges]):
                member.outcome.set_result(False)

    def _count(self) -> None:
        self.counters.statements += 1

    def _succeed(self, batch: Batch) -> None:
        self.counters.transactions += len(batch.members)
        self._announce(batch)
        for member in batch.members:
            member.outcome.set_result(True)

    # --- unknown outcomes ---

    async def _happened(self, identity: bytes, cause: BaseException) -> bool:
        """Whether the commit happened; if not, it never will. Raises CommitUnknown when that can't be told."""
        backoff = self._reads.backoff()
        while True:
            try:
                happened = await self._settle(identity)
                self.counters.resolved += 1
                return happened
            except Exception as error:
                final = isinstance(error, CatalogError) and not isinstance(error, CatalogUnavailable)
                if final or backoff.over:
                    self._unsettled[identity] = None
                    self.counters.unknown += 1
                    raise CommitUnknown(
                        f"the connection was lost during a commit ({type(cause).__name__}), and the database is out of "
                        "reach"
                    ) from None
            await backoff.pause()

    async def _settle(self, identity: bytes) -> bool:
        try:
            await self._reads.once(statements.FENCE, identity)
        except Exception as error:
            if not is_taken(error):
                raise
        rows = await self._reads.once(statements.OUTCOME, identity)
        if not rows:
            raise CatalogUnavailable("a commit's place is neither taken nor free")
        return any(not row[0] for row in rows)

    @property
    def unsettled(self) -> bool:
        """Whether commits of unknown outcome may still happen."""
        return bool(self._unsettled)

    async def settle(self) -> None:
        """Make sure that commits of unknown outcome have happened or never will. Raises CatalogUnavailable."""
        for identity in list(self._unsettled):
            try:
                await self._settle(identity)
            except CatalogError:
                raise
            except Exception as error:
                raise translate(error) from None
            self._unsettled.pop(identity, None)

    async def close(self) -> None:
        """Finish what was joined, then end."""
        self._closing = True
        self._landed.wake()
        while self._gathering.members or self._flying is not None:
            await self._landed.wait()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def _fail(batch: Batch, error: Exception) -> None:
    for member in batch.members:
        if not member.outcome.done():
            member.outcome.set_exception(error)
