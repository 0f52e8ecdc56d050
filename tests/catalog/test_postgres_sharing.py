"""Which transactions of one gateway share a commit, and which commits wait for none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from catalog.interface import Transaction
from catalog.postgres_engine.catalog import PostgresCatalog
from catalog.prefixes import ENGINE

#: Seconds: longer than any of these tests may take.
LONG = 60.0


@pytest.fixture
async def catalog(postgres_url: str) -> AsyncIterator[PostgresCatalog]:
    opened = await PostgresCatalog.open(postgres_url)
    try:
        await opened.transact(write)
        yield opened
    finally:
        await opened.close()


async def write(txn: Transaction) -> None:
    txn.put(ENGINE + b"written", b"x")


async def read_and_write(txn: Transaction) -> None:
    await txn.get(ENGINE + b"read")
    txn.put(ENGINE + b"read", b"x")


def let_commits_wait(catalog: PostgresCatalog) -> None:
    """As if the last commit had taken as long as nothing here may take."""
    catalog._committer._duration = LONG


async def test_a_commit_takes_along_who_is_reading(catalog: PostgresCatalog) -> None:
    """A pack's row needs no read, its bodies' transactions one each: all together are one commit."""
    let_commits_wait(catalog)
    before = catalog.commit_counters.statements
    await asyncio.gather(catalog.transact(write), catalog.transact(read_and_write))
    assert catalog.commit_counters.statements == before + 1


async def test_a_commit_does_not_wait_for_who_reads_on_and_on(catalog: PostgresCatalog) -> None:
    let_commits_wait(catalog)
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def slow(txn: Transaction) -> None:
        await txn.get(ENGINE + b"1")
        await txn.get(ENGINE + b"2")
        reading.set()
        await go_on.wait()

    running = asyncio.create_task(catalog.transact(slow))
    await reading.wait()
    await asyncio.wait_for(catalog.transact(write), LONG / 2)
    go_on.set()
    await running


async def test_a_commit_waits_no_longer_than_one_takes(catalog: PostgresCatalog) -> None:
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def slow(txn: Transaction) -> None:
        await txn.get(ENGINE + b"1")
        reading.set()
        await go_on.wait()

    running = asyncio.create_task(catalog.transact(slow))
    await reading.wait()
    await asyncio.wait_for(catalog.transact(write), LONG / 2)
    go_on.set()
    await running


async def test_a_commit_does_not_wait_for_who_waits_for_it(catalog: PostgresCatalog) -> None:
    """A scan waits until nothing in its range is about to be committed."""
    let_commits_wait(catalog)

    async def scan(txn: Transaction) -> int:
        return len(await txn.scan(ENGINE, ENGINE + b"\xff", limit=10))

    writing = asyncio.create_task(catalog.transact(write))
    assert await asyncio.wait_for(catalog.transact(scan), LONG / 2) == 1
    await writing


async def test_whatever_runs_again_is_counted(catalog: PostgresCatalog) -> None:
    """Also a transaction that is found stale by its own gateway, before the database is asked."""
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def slow(txn: Transaction) -> bytes | None:
        found = await txn.get(ENGINE + b"read")
        reading.set()
        await go_on.wait()
        txn.put(ENGINE + b"copy", found or b"")
        return found

    running = asyncio.create_task(catalog.transact(slow))
    await reading.wait()
    writing = asyncio.create_task(catalog.transact(read_and_write))
    while catalog.pending(ENGINE + b"read") is None:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    go_on.set()
    assert await running == b"x"
    await writing
    assert catalog.commit_counters.stale == 1
