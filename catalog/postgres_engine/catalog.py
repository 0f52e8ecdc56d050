"""The networked engine (see `catalog.interface.Catalog`): one process's view of a catalog that many share.

Transactions are optimistic. Their functions read outside any transaction; what they saw is checked, and what they wrote
is written, by one serializable statement, which many transactions of this process share. So no transaction of the
database is ever open while a function runs: a process that stops in the midst of one holds up nobody.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, TypeVar

from catalog.errors import CatalogClosed, CatalogError, CatalogUnavailable, Conflict
from catalog.feed import TRIMMED_KEY, changes_of
from catalog.gate import CommitGate
from catalog.interface import Change, Reader, Row, Transaction, View
from catalog.keys import prefix_end, u64
from catalog.postgres_engine import statements
from catalog.postgres_engine.address import redacted
from catalog.postgres_engine.attempt import Attempt, Seen, StaleRead
from catalog.postgres_engine.batch import Batch
from catalog.postgres_engine.committer import CommitCounters, Committer
from catalog.postgres_engine.connections import Connector, Pool, farewell
from catalog.postgres_engine.database import Database
from catalog.postgres_engine.grouping import Lanes
from catalog.postgres_engine.identities import Identities
from catalog.postgres_engine.readers import scan_statement
from catalog.postgres_engine.reading import Reading
from catalog.postgres_engine.retiring import allow_commits, forbid_commits
from catalog.postgres_engine.schema import prepare
from catalog.postgres_engine.sequencer import Sequencer, SequencerCounters
from catalog.postgres_engine.steady import steady_view
from catalog.postgres_engine.whole import export_rows, load_rows
from catalog.prefixes import FEED
from core.errors import StartRefused

T = TypeVar("T")

_ATTEMPTS: Final = 200
_LANES: Final = 2
#: How long the database may be out of reach before a health check says so.
_TROUBLE_SECONDS: Final = 2.0
_REMEMBERED: Final = 2048
_REMEMBERED_BYTES: Final = 2048


class PostgresCatalog:
    """An open catalog. Use `open`; belongs to the loop that opened it."""

    exclusive = False
    local = False

    def __init__(self, connector: Connector, connections: int, acquire_timeout: float, patience: float) -> None:
        self._connector = connector
        self._patience = patience
        limit = max(connections - 2, 1)
        self._pools = (
            Pool(connector, limit=limit, timeout=acquire_timeout),
            Pool(connector, limit=1, timeout=acquire_timeout, serializable=True),
            Pool(connector, limit=1, timeout=acquire_timeout),
        )
        reading, committing, sequencing = self._pools
        self._database = Database(connector, reading, patience=patience)
        self._rows = Lanes(self._database.fetch, statements.GET, _LANES)
        self._reading = Reading(self._database, self._rows, connector.patience)
        self._identities = Identities()
        self._sequencer = Sequencer(
            Database(connector, sequencing, patience=min(patience, _TROUBLE_SECONDS)), self._identities, 0
        )
        self._committer = Committer(
            Database(connector, committing, patience=patience), self._database, self._identities, self._announce
        )
        self._remembered: OrderedDict[bytes, Seen] = OrderedDict()
        self._turnstile = asyncio.Lock()
        self._random = random.Random()  # noqa: S311 - jitter
        self._scans: set[asyncio.Task[list[Any]]] = set()
        self._closed = False
        #: Shut while the catalog moves.
        self.gate = CommitGate()

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        may_create: bool = True,
        connections: int = 16,
        acquire_timeout: float = 10.0,
        statement_timeout: float = 15.0,
        patience: float = 15.0,
    ) -> PostgresCatalog:
        """Open the catalog in the database `url` (postgresql://…), whose tables are made or brought up to date.

        `connections`: the most that this process holds at once (at least 4; exports come on top). `acquire_timeout`:
        seconds that a caller waits for one. `patience`: seconds for which the database may be out of reach before
        callers get CatalogUnavailable. Raises StartRefused, FutureVersion or Corrupt.
        """
        if connections < 4:
            raise StartRefused("the catalog needs at least 4 connections")
        connector = Connector(url, connect_timeout=acquire_timeout, statement_timeout=statement_timeout)
        try:
            connection = await connector.connect(endless=True)
        except (ValueError, TypeError) as error:
            raise StartRefused(f"the catalog's address {redacted(url)} is not understood") from error
        except Exception as error:
            raise StartRefused(f"the catalog's database {redacted(url)} can't be reached: {_why(error)}") from None
        try:
            await prepare(connection, may_create=may_create)
        except CatalogError:
            raise
        except StartRefused as error:
            raise StartRefused(f"{redacted(url)}: {error}") from None
        except Exception as error:
            raise StartRefused(f"the catalog's tables in {redacted(url)} can't be made: {_why(error)}") from None
        finally:
            await farewell(connection)
        catalog = cls(connector, connections, acquire_timeout, patience)
        try:
            await catalog.sequence()
        except BaseException:
            await catalog.close()
            raise
        return catalog

    # --- reads ---

    @property
    def known_sequence(self) -> int:
        return self._sequencer.number

    def now_us(self) -> int:
        """The database's clock, which all gateways share: microseconds since the Unix epoch."""
        return self._identities.now_us()

    @property
    def commit_counters(self) -> CommitCounters:
        return self._committer.counters

    @property
    def sequencer_counters(self) -> SequencerCounters:
        return self._sequencer.counters

    @property
    def trouble(self) -> str:
        """Why nothing can be served now, for a health check; "" while the database answers."""
        return "" if self._sequencer.error is None else str(self._sequencer.error)

    @property
    def connections(self) -> tuple[int, int]:
        """Connections open, and in use."""
        return sum(pool.count for pool in self._pools), sum(pool.busy for pool in self._pools)

    async def read(self, function: Callable[[Reader], Awaitable[T]], *, long: bool = False) -> T:
        """See `catalog.interface.Catalog.read`. The function may run again: when rows changed between two of its reads,
        and when the connection was lost. Raises CatalogUnavailable."""
        await self._ready()
        return await self._reading.read(function, long=long)

    @asynccontextmanager
    async def view(self) -> AsyncIterator[View]:
        """See `catalog.interface.Catalog.view`. Raises CatalogUnavailable."""
        await self._ready()
        async with steady_view(self._connector) as view:
            yield view

    # --- transactions ---

    async def transact(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        """See `catalog.interface.Catalog.transact`. Raises CatalogUnavailable, with nothing written, when the database
        is out of reach for too long, and Conflict when the function's reads never held."""
        self.gate.enter()
        try:
            return await self._transact(function)
        finally:
            self.gate.leave()

    async def _transact(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        await self._ready()
        committed, result = await self._attempt(function, may_remember=True)
        if committed:
            return result  # type: ignore[return-value]
        # One at a time, or those that want the same rows would keep making each other stale.
        async with self._turnstile:
            for number in range(_ATTEMPTS):
                committed, result = await self._attempt(function, may_remember=False)
                if committed:
                    return result  # type: ignore[return-value]
                await asyncio.sleep(self._random.uniform(0, min(0.001 * 2**number, 0.05)))
        raise Conflict(f"the transaction's reads were outdated {_ATTEMPTS} times")

    async def _attempt(
        self, function: Callable[[Transaction], Awaitable[T]], *, may_remember: bool
    ) -> tuple[bool, T | None]:
        """One run. Whether it is committed, and what the function returned. Raises its errors, if they held."""
        attempt = Attempt(self, may_remember=may_remember)
        self._committer.begin(attempt)
        error: Exception | None = None
        result: T | None = None
        try:
            try:
                result = await function(attempt)
            except StaleRead:
                self._note_stale(attempt)
                return False, None
            except Exception as raised:
                error = raised
                attempt.writes.clear()
            if attempt.failure is not None:
                raise attempt.failure
            if attempt.writes or not attempt.holds:
                outcome = await self._committer.join(attempt)
                self._committer.end(attempt)
                if outcome is None or not await _held_back(outcome):
                    self._note_stale(attempt)
                    return False, None
            # An error too is only believed if what it was decided on held.
            if error is not None:
                raise error
            return True, result
        finally:
            error = None  # its traceback refers to this frame
            self._committer.end(attempt)

    def _announce(self, batch: Batch) -> None:
        """A batch was committed."""
        if batch.writes:
            self._sequencer.committed()
        for key, seen in batch.writes.items():
            if key in self._remembered:
                if seen.value is None or len(seen.value) > _REMEMBERED_BYTES:
                    del self._remembered[key]
                else:
                    self._remembered[key] = seen

    def _note_stale(self, attempt: Attempt) -> None:
        self._committer.counters.stale += 1
        for key in attempt.reads:
            self._remembered.pop(key, None)

    # --- what attempts read (see `attempt.Source`) ---

    def pending(self, key: bytes) -> Seen | None:
        return self._committer.pending(key)

    def remembered(self, key: bytes) -> Seen | None:
        return self._remembered.get(key)

    async def fetch(self, keys: Sequence[bytes]) -> list[Seen]:
        found = await self._rows.request(keys)
        seen = [Seen(row[1], row[2]) if (row := found.get(key)) is not None else Seen(None, 0) for key in keys]
        for key, one in zip(keys, seen, strict=True):
            # What is being overwritten would be remembered too late.
            if one.value is not None and len(one.value) <= _REMEMBERED_BYTES and self._committer.pending(key) is None:
                self._remembered[key] = one
                self._remembered.move_to_end(key)
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return seen

    async def fetch_range(
        self, start: bytes, end: bytes, *, limit: int, reverse: bool, keys_only: bool
    ) -> list[tuple[bytes, bytes, int]]:
        await self._committer.wait_for_range(start, end)
        statement = scan_statement(reverse=reverse, keys_only=keys_only)
        task = asyncio.create_task(self._database.fetch(statement, start, end, limit))
        # A caller that is cancelled must not cost a connection.
        self._scans.add(task)
        task.add_done_callback(self._scans.discard)
        return [(row[0], row[1], row[2]) for row in await asyncio.shield(task)]

    # --- the feed ---

    async def sequence(self) -> int:
        """See `catalog.interface.Catalog.sequence`: all that anybody has committed by now has a number up to this."""
        await self._ready()
        return await self._look()

    async def changes(self, after: int, *, limit: int = 1000) -> list[Change]:
        await self._ready()
        await self._sequencer.catch_up()
        start, end = FEED + u64(after + 1), prefix_end(FEED)
        rows = await self._database.fetch(statements.ROW_AND_RANGE, TRIMMED_KEY, start, end, limit)
        trimmed = next((row[2] for row in rows if not row[0]), None)
        return changes_of([(row[1], row[2]) for row in rows if row[0]], trimmed, after)

    async def _look(self) -> int:
        """Number what is committed; goes on trying as long as callers wait for the database."""
        backoff = self._database.backoff()
        while True:
            try:
                return await self._sequencer.look()
            except CatalogUnavailable:
                if backoff.over:
                    raise
            await backoff.pause()

    async def wait_changes(self, after: int) -> int:
        while self._sequencer.number <= after:
            self._check_open()
            await self._sequencer.changed.wait()
        return self._sequencer.number

    # --- whole catalogs ---

    async def export(self, *, after: bytes = b"") -> AsyncGenerator[list[Row], None]:
        await self._ready()
        async with aclosing(export_rows(self._connector, after)) as runs:
            async for rows in runs:
                yield rows

    async def load(self, rows: Sequence[Row], *, sequence: int) -> None:
        await self._ready()
        await load_rows(self._database, self._connector.patience, rows, sequence)
        self._sequencer.hear(sequence)

    async def retire(self, mark: Row, *, sequence: int, unchanged: Sequence[Row]) -> bool:
        """See `catalog.copying.movable.Movable`: the tables take no commit of anybody any more."""
        return await forbid_commits(
            self._connector, mark, sequence=sequence, unchanged=unchanged, backoff=self._database.backoff()
        )

    async def unretire(self) -> None:
        """See `catalog.copying.movable.Movable`."""
        await allow_commits(self._connector)

    async def close(self) -> None:
        """Wait for commits under way, then let go of the database. Further use raises CatalogClosed."""
        if self._closed:
            return
        self._closed = True
        await self._committer.close()
        await self._sequencer.close()
        await self._rows.close()
        await self._reading.close()
        for task in list(self._scans):
            task.cancel()
        await asyncio.gather(*self._scans, return_exceptions=True)
        for pool in self._pools:
            await pool.close()

    def _check_open(self) -> None:
        if self._closed:
            raise CatalogClosed("the catalog is closed")

    async def _ready(self) -> None:
        if self._closed:
            raise CatalogClosed("the catalog is closed")
        if self._committer.unsettled:
            await self._committer.settle()


async def _held_back(outcome: asyncio.Future[bool]) -> bool:
    """The outcome. A cancellation waits until it is known, and is delivered at the caller's next await."""
    cancelled = False
    while not outcome.done():
        try:
            await asyncio.shield(outcome)
        except asyncio.CancelledError:
            cancelled = True
        except Exception:
            break
    if cancelled:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        task.cancel()
    return outcome.result()


def _why(error: BaseException) -> str:
    """The kind of an error of the driver; its text may hold what is secret."""
    return type(error).__name__
