"""The PostgreSQL engine behind a network that cuts connections at every point."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from catalog.errors import CatalogUnavailable, CommitUnknown
from catalog.interface import Reader, Row, Transaction
from catalog.keys import u64
from catalog.postgres_engine.catalog import PostgresCatalog
from catalog.prefixes import ENGINE
from tests.catalog.waiting import eventually
from tests.harness.cutting_proxy import CuttingProxy, cutting_proxy
from tests.harness.postgres_server import PostgresServer

COUNTER = ENGINE + b"counter"
BLIND = ENGINE + b"blind"


@pytest.fixture
async def proxy(postgres: PostgresServer) -> AsyncIterator[CuttingProxy]:
    async with cutting_proxy(postgres.port) as made:
        yield made


@asynccontextmanager
async def behind(
    proxy: CuttingProxy, postgres: PostgresServer, url: str, *, patience: float = 15.0, statement_timeout: float = 15.0
) -> AsyncIterator[PostgresCatalog]:
    """A catalog whose connections go through the proxy."""
    database = url.rpartition("/")[2]
    address = postgres.url(database, port=proxy.port)
    catalog = await PostgresCatalog.open(address, patience=patience, statement_timeout=statement_timeout)
    try:
        yield catalog
    finally:
        proxy.cut_after()
        proxy.refusing = False
        await catalog.close()


async def count(catalog: PostgresCatalog, mark: int) -> int:
    """Add one to the counter and leave a row of one's own."""

    async def work(txn: Transaction) -> int:
        value = int(await txn.get(COUNTER) or b"0") + 1
        txn.put(COUNTER, b"%d" % value)
        txn.put(ENGINE + b"mark" + u64(mark), b"")
        txn.delete(ENGINE + b"mark" + u64(mark - 1))
        return value

    return await catalog.transact(work)


async def blindly(catalog: PostgresCatalog) -> None:
    """A transaction that reads nothing, so that only its commit needs the database."""

    async def work(txn: Transaction) -> None:
        txn.put(BLIND, b"")

    await catalog.transact(work)


async def value(catalog: PostgresCatalog) -> int:
    stored = await catalog.read(lambda reader: reader.get(COUNTER))
    return int(stored or b"0")


@pytest.mark.parametrize(("direction", "most"), [("sent", 2000), ("received", 400)])
async def test_a_cut_at_any_byte_neither_loses_nor_repeats_a_commit(
    postgres: PostgresServer, postgres_url: str, proxy: CuttingProxy, direction: str, most: int, rounds: int
) -> None:
    rng = random.Random(direction)
    async with behind(proxy, postgres, postgres_url) as catalog:
        points = [*range(0, most, most // 25), *(rng.randrange(most) for _ in range(20 * rounds))]
        for done, point in enumerate(points, 1):
            proxy.cut_after(**{direction: point})
            assert await count(catalog, done) == done
        proxy.cut_after()
        assert await value(catalog) == len(points)
        # Where the connection went on, the later points come after the last answer.
        assert proxy.cuts >= len(points) / 3
        assert catalog.commit_counters.resolved > 0
        assert catalog.commit_counters.unknown == 0
        assert catalog.connections[1] <= 1, "connections that nobody uses are given back"


async def test_concurrent_counters_over_a_network_that_keeps_cutting(
    postgres: PostgresServer, postgres_url: str, proxy: CuttingProxy
) -> None:
    async with behind(proxy, postgres, postgres_url) as one, behind(proxy, postgres, postgres_url) as other:
        values: list[int] = []

        async def client(catalog: PostgresCatalog, number: int) -> None:
            for turn in range(12):
                values.append(await count(catalog, number * 1000 + turn + 1))

        async def saboteur() -> None:
            rng = random.Random(7)
            done = -1
            while True:
                await asyncio.sleep(rng.uniform(0.005, 0.05))
                if len(values) > done:  # on a slow machine connections need longer than that to be made again
                    done = len(values)
                    proxy.cut()

        cutting = asyncio.create_task(saboteur())
        try:
            await asyncio.gather(*(client(catalog, i) for i, catalog in enumerate([one, other] * 4)))
        finally:
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)
        assert sorted(values) == list(range(1, 97))
        assert await value(one) == 96
        assert one.commit_counters.unknown == other.commit_counters.unknown == 0


async def test_reads_go_on_over_cut_connections(
    postgres: PostgresServer, postgres_url: str, proxy: CuttingProxy
) -> None:
    async with behind(proxy, postgres, postgres_url) as catalog:
        await count(catalog, 1)
        for point in range(0, 400, 20):
            proxy.cut_after(received=point)
            assert await value(catalog) == 1
            assert len(await catalog.read(lambda reader: reader.scan(ENGINE, b"\x11", limit=10), long=True)) == 2
        assert proxy.cuts >= 5


async def test_an_outcome_that_stays_unknown_is_told_and_settled_before_the_next_read(
    postgres: PostgresServer, postgres_url: str, proxy: CuttingProxy
) -> None:
    """The statement waits for a lock while its connection is cut, and would go through later."""
    async with behind(proxy, postgres, postgres_url, patience=0.4, statement_timeout=2) as catalog:
        assert await count(catalog, 1) == 1
        blocker = await asyncpg.connect(postgres_url)
        try:
            await blocker.execute("BEGIN")
            await blocker.execute("SELECT 1 FROM atoll_rows WHERE key = $1 FOR UPDATE", COUNTER)
            attempt = asyncio.create_task(count(catalog, 2))
            await _until_blocked(blocker)
            proxy.refusing = True
            proxy.cut()
            with pytest.raises(CommitUnknown):
                await attempt
            with pytest.raises(CatalogUnavailable):
                await value(catalog)
            proxy.refusing = False
            # Not answered before the server has given the statement up, or was kept from it: it can't happen any more.
            assert await value(catalog) == 1
            await blocker.execute("COMMIT")
            await asyncio.sleep(0.2)
            assert await value(catalog) == 1
            assert await count(catalog, 3) == 2
        finally:
            await blocker.close()


async def test_a_statement_that_outlives_its_connection_is_not_done_twice(
    postgres: PostgresServer, postgres_url: str, proxy: CuttingProxy
) -> None:
    async with behind(proxy, postgres, postgres_url) as catalog:
        assert await count(catalog, 1) == 1
        blocker = await asyncpg.connect(postgres_url)
        try:
            await blocker.execute("BEGIN")
            await blocker.execute("SELECT 1 FROM atoll_rows WHERE key = $1 FOR UPDATE", COUNTER)
            attempt = asyncio.create_task(count(catalog, 2))
            await _until_blocked(blocker)
            proxy.cut()
            await asyncio.sleep(0.3)
            await blocker.execute("COMMIT")
            assert await attempt == 2
            await asyncio.sleep(0.2)
            assert await value(catalog) == 2
            assert catalog.commit_counters.resolved == 1
        finally:
            await blocker.close()


async def test_a_database_out_of_reach_is_told_and_nothing_is_written(
    postgres: PostgresServer, postgres_url: str, proxy: CuttingProxy
) -> None:
    async with behind(proxy, postgres, postgres_url, patience=0.3) as catalog:
        assert await count(catalog, 1) == 1
        proxy.refusing = True
        proxy.cut()
        with pytest.raises(CatalogUnavailable):
            await count(catalog, 2)
        with pytest.raises(CatalogUnavailable):
            await blindly(catalog)
        with pytest.raises(CatalogUnavailable):
            await catalog.sequence()

        async def in_trouble() -> bool:
            return bool(catalog.trouble)

        await eventually(in_trouble)
        proxy.refusing = False
        assert await value(catalog) == 1
        assert await count(catalog, 3) == 2
        assert await catalog.read(lambda reader: reader.get(BLIND)) is None
        await catalog.sequence()
        assert catalog.trouble == ""


async def test_a_network_that_falls_silent_is_told_whatever_waits_for_it(
    postgres: PostgresServer, postgres_url: str, proxy: CuttingProxy
) -> None:
    """Connections stay open and nothing comes: the system alone would wait for ever."""
    async with behind(proxy, postgres, postgres_url, patience=0.2, statement_timeout=0.2) as catalog:
        assert await count(catalog, 1) == 1

        async def scan(reader: Reader) -> list[Row]:
            return await reader.scan(ENGINE, b"\x11", limit=10)

        async def look() -> None:
            async with catalog.view() as view:
                await scan(view)

        async def export() -> None:
            async for _ in catalog.export():
                pass

        async with catalog.view() as view:
            await scan(view)
            proxy.stall()
            waiting = (
                scan(view), look(), export(), catalog.load([(BLIND, b"")], sequence=0), catalog.read(scan, long=True),
                catalog.read(scan), value(catalog), catalog.sequence(),
            )  # fmt: skip
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            proxy.flow()
        assert [type(outcome) for outcome in outcomes[1:]] == [CatalogUnavailable] * 7
        assert isinstance(outcomes[0], TimeoutError), "within a view the driver's own errors come through until it ends"


async def _until_blocked(connection: asyncpg.Connection) -> None:
    """Until another session waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    await eventually(lambda: connection.fetchval(waiting))
