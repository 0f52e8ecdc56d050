"""The pool of connections: bounded, waiting in order, never leaking."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from catalog.errors import CatalogClosed, CatalogUnavailable
from catalog.postgres_engine import statements
from catalog.postgres_engine.catalog import PostgresCatalog
from catalog.postgres_engine.connections import Connector, Pool
from catalog.postgres_engine.database import Database
from catalog.postgres_engine.grouping import Lanes
from catalog.prefixes import ENGINE


@pytest.fixture
def connector(postgres_url: str) -> Connector:
    return Connector(postgres_url, connect_timeout=5, statement_timeout=1)


async def test_an_exhausted_pool_says_so_in_time_and_recovers(connector: Connector) -> None:
    pool = Pool(connector, limit=2, timeout=0.1)
    async with pool.use() as first, pool.use() as second:
        assert first is not second
        with pytest.raises(CatalogUnavailable, match="none of 2"):
            async with pool.use():
                pass
        assert (pool.count, pool.busy) == (2, 2)
    async with pool.use() as again:
        assert again in (first, second)
    assert (pool.count, pool.busy) == (2, 0)
    await pool.close()
    assert pool.count == 0
    with pytest.raises(CatalogClosed):
        async with pool.use():
            pass


async def test_whoever_waits_is_served_in_order_and_the_cancelled_pass_their_turn_on(connector: Connector) -> None:
    pool = Pool(connector, limit=1, timeout=5)
    order: list[int] = []

    async def user(number: int) -> None:
        async with pool.use():
            order.append(number)
            await asyncio.sleep(0)

    async with pool.use():
        tasks = [asyncio.create_task(user(number)) for number in range(6)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        tasks[3].cancel()
    # One is cancelled in the very turn in which it was given the connection.
    tasks[1].cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert order == [2, 4, 5]
    assert (pool.count, pool.busy) == (1, 0)
    await pool.close()


async def test_a_broken_connection_is_replaced(connector: Connector) -> None:
    pool = Pool(connector, limit=1, timeout=5)
    async with pool.use() as connection:
        connection.terminate()
    async with pool.use() as another:
        assert await another.fetchval("SELECT 1") == 1
        assert another is not connection
    await pool.close()


async def test_commits_are_synced_whatever_the_servers_default_is(postgres_url: str, connector: Connector) -> None:
    plain = await asyncpg.connect(postgres_url)
    ours = await connector.connect(serializable=True)
    try:
        assert await plain.fetchval("SHOW synchronous_commit") == "off", "the server of the tests needs no syncs"
        assert await ours.fetchval("SHOW synchronous_commit") == "on"
        assert await ours.fetchval("SHOW transaction_isolation") == "serializable"
    finally:
        await plain.close()
        await ours.close()


async def test_a_connection_that_cannot_be_made_is_not_counted() -> None:
    pool = Pool(Connector("postgresql://u@127.0.0.1:1/d", connect_timeout=1, statement_timeout=1), limit=1, timeout=1)
    for _ in range(3):
        with pytest.raises(OSError):
            async with pool.use():
                pass
    assert pool.count == 0
    await pool.close()


async def test_a_statement_that_takes_too_long_is_given_up(connector: Connector) -> None:
    pool = Pool(connector, limit=1, timeout=5)
    database = Database(connector, pool, patience=5)
    with pytest.raises(CatalogUnavailable, match="too long"):
        await database.fetch("SELECT pg_sleep(20)")
    assert (await database.fetch("SELECT 1"))[0][0] == 1
    await pool.close()


async def test_reads_wait_for_each_other_and_share_statements(postgres_url: str) -> None:
    catalog = await PostgresCatalog.open(postgres_url, connections=4)
    try:
        lanes = catalog._rows
        before = lanes.statements
        keys = [ENGINE + b"%d" % number for number in range(500)]
        found = await asyncio.gather(*(catalog.read(lambda reader, key=key: reader.get(key)) for key in keys))  # type: ignore[misc]
        assert found == [None] * 500
        assert lanes.statements - before < 20
        assert catalog.connections[0] <= 4
    finally:
        await catalog.close()
    with pytest.raises(CatalogClosed):
        await catalog.read(lambda reader: reader.get(keys[0]))


async def test_a_request_that_comes_as_lanes_end_is_not_left_behind() -> None:
    """Requests right behind the end of the last statement, again and again."""

    async def fetch(statement: str, keys: list[bytes]) -> list[Any]:
        assert statement == statements.GET
        await asyncio.sleep(0)
        return [(key,) for key in keys]

    lanes = Lanes(fetch, statements.GET, 2)

    async def user(number: int) -> None:
        for turn in range(50):
            assert b"%d" % number in await lanes.request([b"%d" % number])
            for _ in range((number + turn) % 4):
                await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(*(user(number) for number in range(7))), 10)
    await lanes.close()
    with pytest.raises(CatalogClosed):
        lanes.request([b"1"])
