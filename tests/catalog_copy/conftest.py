"""A source with rows and an empty target, of real engines; databases for servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from catalog.keys import u64
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.postgres_engine.catalog import PostgresCatalog
from catalog.prefixes import ACCOUNTS, EPOCH, LEASE
from core import crashpoints
from tests.catalog.conformance import put
from tests.catalog_copy.pair import ROWS, Pair
from tests.harness.postgres_server import PostgresServer


@pytest.fixture(params=["lmdb to postgres", "postgres to lmdb"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str) -> AsyncIterator[Pair]:
    embedded = await LmdbCatalog.open(tmp_path / "catalog")
    networked = await PostgresCatalog.open(postgres_url)
    there = request.param == "lmdb to postgres"
    made = Pair(embedded, networked) if there else Pair(networked, embedded)
    try:
        await made.source.load(ROWS, sequence=1)
        await put(made.source, (EPOCH + b"n", u64(7)), (LEASE + b"tx", b"1"), (ACCOUNTS + b"u", b"user"))
        yield made
    finally:
        crashpoints.disarm()
        await embedded.close()
        await networked.close()


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    """The address of an empty database of the test's own, for tests without a loop."""
    name = asyncio.run(postgres.new_database())
    yield postgres.url(name)
    asyncio.run(postgres.drop_database(name))
