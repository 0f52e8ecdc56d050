"""Opening: tables made once by whoever comes first, changed while others serve, and refused where they are not ours."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import asyncpg
import pytest

from catalog.errors import Corrupt, FutureVersion
from catalog.interface import Transaction
from catalog.postgres_engine.address import is_address, redacted
from catalog.postgres_engine.catalog import PostgresCatalog
from catalog.postgres_engine.schema import SCHEMA, STEPS, Step, is_postgres, prepare
from catalog.prefixes import ENGINE
from core.errors import StartRefused
from tests.harness.postgres_server import PostgresServer

KEY = ENGINE + b"key"

#: A later release: a column that the present one doesn't know, and then one that it can't do without.
EXPANSION = Step(SCHEMA + 1, 1, always=("ALTER TABLE atoll_rows ADD COLUMN IF NOT EXISTS note bytea",))
CONTRACTION = Step(SCHEMA + 2, SCHEMA + 2, always=("ALTER TABLE atoll_numbered DROP COLUMN IF EXISTS void",))


async def run(url: str, statement: str, *arguments: object) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement, *arguments)
    finally:
        await connection.close()


async def migrate(url: str, *steps: Step) -> None:
    connection = await asyncpg.connect(url)
    try:
        await prepare(connection, may_create=False, steps=(*STEPS, *steps))
    finally:
        await connection.close()


async def put(catalog: PostgresCatalog, value: bytes) -> None:
    async def write(txn: Transaction) -> None:
        txn.put(KEY, value)

    await catalog.transact(write)


async def test_many_may_open_an_empty_database_at_once(postgres_url: str) -> None:
    async with AsyncExitStack() as stack:
        opened = await asyncio.gather(*(PostgresCatalog.open(postgres_url, connections=4) for _ in range(6)))
        for catalog in opened:
            stack.push_async_callback(catalog.close)
        await put(opened[0], b"1")
        assert await opened[5].read(lambda reader: reader.get(KEY)) == b"1"
    assert await run(postgres_url, "SELECT value FROM atoll_meta WHERE name = 'schema'") == SCHEMA


async def test_what_was_written_is_there_when_opened_again(postgres_url: str) -> None:
    catalog = await PostgresCatalog.open(postgres_url)
    await put(catalog, b"1")
    sequence = await catalog.sequence()
    await catalog.close()
    again = await PostgresCatalog.open(postgres_url, may_create=False)
    assert await again.read(lambda reader: reader.get(KEY)) == b"1"
    assert again.known_sequence == sequence
    await again.close()


async def test_an_older_program_serves_on_while_a_newer_one_expands_the_tables(postgres_url: str) -> None:
    old = await PostgresCatalog.open(postgres_url)
    stop = False
    done = 0

    async def serve() -> None:
        nonlocal done
        while not stop:
            done += 1
            await put(old, b"%d" % done)

    serving = asyncio.create_task(serve())
    await asyncio.sleep(0.05)
    await migrate(postgres_url, EXPANSION)
    before = done
    await asyncio.sleep(0.05)
    stop = True
    await serving
    assert done > before
    assert await old.read(lambda reader: reader.get(KEY)) == b"%d" % done
    # And one of the old version still starts.
    another = await PostgresCatalog.open(postgres_url)
    await put(another, b"x")
    await another.close()
    await old.close()


async def test_tables_of_the_future_are_refused(postgres_url: str) -> None:
    await (await PostgresCatalog.open(postgres_url)).close()
    await migrate(postgres_url, EXPANSION, CONTRACTION)
    with pytest.raises(FutureVersion, match=f"needs a program of schema {SCHEMA + 2}"):
        await PostgresCatalog.open(postgres_url)


async def test_a_change_that_an_older_program_could_not_live_with_waits_until_it_is_gone(postgres_url: str) -> None:
    old = await PostgresCatalog.open(postgres_url)
    with pytest.raises(StartRefused, match=r"older version still use the catalog, from 127\.0\.0\.1"):
        await migrate(postgres_url, EXPANSION, CONTRACTION)
    assert await run(postgres_url, "SELECT value FROM atoll_meta WHERE name = 'needs'") == 1
    # What only adds was done. The old one serves on, and another may start.
    await put(old, b"1")
    await (await PostgresCatalog.open(postgres_url)).close()
    await old.close()
    await migrate(postgres_url, EXPANSION, CONTRACTION)
    assert await run(postgres_url, "SELECT value FROM atoll_meta WHERE name = 'needs'") == SCHEMA + 2


async def test_a_step_that_was_cut_short_is_done_again(postgres_url: str) -> None:
    await (await PostgresCatalog.open(postgres_url)).close()
    broken = Step(SCHEMA + 1, 1, always=(*EXPANSION.always, "SELECT 1 / 0"))
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(postgres_url, broken)
    assert await run(postgres_url, "SELECT value FROM atoll_meta WHERE name = 'schema'") == SCHEMA
    await migrate(postgres_url, EXPANSION)
    assert await run(postgres_url, "SELECT value FROM atoll_meta WHERE name = 'schema'") == SCHEMA + 1


async def test_a_table_that_is_not_ours_is_left_alone(postgres_url: str) -> None:
    await run(postgres_url, "CREATE TABLE atoll_meta (name text PRIMARY KEY, value bigint)")
    await run(postgres_url, "INSERT INTO atoll_meta VALUES ('theirs', 1)")
    with pytest.raises(Corrupt, match="not a catalog's"):
        await PostgresCatalog.open(postgres_url)


async def test_nothing_is_made_where_nothing_may_be(postgres_url: str) -> None:
    with pytest.raises(StartRefused, match="holds no catalog"):
        await PostgresCatalog.open(postgres_url, may_create=False)
    assert await run(postgres_url, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'atoll%'") == 0


async def test_refusals_to_start_name_the_database_and_keep_the_password(postgres: PostgresServer) -> None:
    for url in (
        "postgresql://atoll:hunter2@127.0.0.1:1/db",
        postgres.url("absent").replace("secret-of-the-tests", "hunter2"),
        "postgresql://atoll:hunter2@127.0.0.1:notaport/db",
    ):
        with pytest.raises(StartRefused) as caught:
            await PostgresCatalog.open(url)
        assert "hunter2" not in str(caught.value)
        assert "127.0.0.1" in str(caught.value)
    with pytest.raises(StartRefused, match="at least 4"):
        await PostgresCatalog.open(postgres.url("absent"), connections=3)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgres://u@h/d", "postgres://u@h/d"),
        ("postgresql://u:p:q@h/d?sslmode=require", "postgresql://u:***@h/d?sslmode=require"),
        ("postgresql:///d?host=/run/pg&user=u&password=p", "postgresql:///d?host=/run/pg&user=u&password=***"),
        ("postgresql://u:p@h1:1,h2:2/d", "postgresql://u:***@h1:1,h2:2/d"),
        ("postgresql://u:p@[bad/d", "postgresql://***"),
    ],
)
def test_addresses_are_shown_without_secrets(url: str, shown: str) -> None:
    assert is_address(url)
    assert redacted(url) == shown


def test_databases_that_speak_the_protocol_are_told_apart() -> None:
    assert is_postgres("PostgreSQL 16.14 on x86_64-pc-linux-gnu, compiled by gcc")
    assert not is_postgres("CockroachDB CCL v24.1.0 (x86_64-pc-linux-gnu, built 2024)")
    assert not is_postgres("PostgreSQL 11.2-YB-2.20.0.0-b0 on x86_64-pc-linux-gnu")
    assert not is_address("file:///data/catalog")
