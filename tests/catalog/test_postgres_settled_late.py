"""Commits that are seen before they have their number, or asked for after."""

from __future__ import annotations

import asyncpg

from catalog.interface import Transaction
from catalog.postgres_engine import statements
from catalog.postgres_engine.catalog import PostgresCatalog
from catalog.prefixes import EPOCH


async def test_taking_the_place_of_a_numbered_commit_does_not_end_the_numbering(postgres_url: str) -> None:
    async def put(txn: Transaction) -> None:
        txn.put(b"\x10key", b"value")

    catalog = await PostgresCatalog.open(postgres_url)
    connection = await asyncpg.connect(postgres_url)
    try:
        await catalog.transact(put)
        before = await catalog.sequence()
        (identity,) = await connection.fetchrow("SELECT id FROM atoll_numbered ORDER BY id DESC LIMIT 1")
        await connection.execute(statements.FENCE, identity)
        await catalog.transact(put)
        assert await catalog.sequence() > before
        assert [row["void"] for row in await connection.fetch(statements.OUTCOME, identity)] == [False]
        assert await connection.fetchval("SELECT count(*) FROM atoll_outbox") == 0
    finally:
        await connection.close()
        await catalog.close()


async def test_commits_that_the_feed_does_not_list_have_no_keys_to_show(postgres_url: str) -> None:
    async def beat(txn: Transaction) -> None:
        txn.put(EPOCH + b"key", b"value")

    async def put(txn: Transaction) -> None:
        txn.put(b"\x10key", b"value")

    catalog = await PostgresCatalog.open(postgres_url)
    try:
        await catalog._sequencer.close()  # nothing gets a number any more
        await catalog.transact(beat)
        await catalog.transact(put)
        async with catalog.view() as view:
            assert await view.unnumbered() == [b"\x10key"]
    finally:
        await catalog.close()
