"""What a guest may have seen, the host's glances show too, though its event loop has not heard of the commit yet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from catalog.interface import Transaction
from catalog.lmdb_engine.catalog import LmdbCatalog

A, B = b"\x01a", b"\x01b"


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[LmdbCatalog]:
    catalog = await LmdbCatalog.open(tmp_path)
    catalog.share()
    yield catalog
    await catalog.close()


async def put(catalog: LmdbCatalog, key: bytes, value: bytes) -> None:
    async def write(txn: Transaction) -> None:
        txn.put(key, value)

    await catalog.transact(write)


async def test_a_glance_during_a_commit(shared: LmdbCatalog) -> None:
    await put(shared, A, b"1")
    for number in range(2, 12):
        value = b"%d" % number
        writing = asyncio.create_task(put(shared, A, value))
        while shared._writer.writing is None:  # noqa: ASYNC110 - the very turn of the loop counts
            await asyncio.sleep(0)
        deadline = time.monotonic() + 10
        while True:  # as a guest reads, without a turn of this event loop
            fresh = shared._environment.snapshot()
            seen = fresh.get(A)
            fresh.close()
            if seen == value:
                break
            assert time.monotonic() < deadline
            time.sleep(0.0005)  # noqa: ASYNC251 - the event loop is not to have its turn
        assert shared._writer.writing is not None, "the event loop has heard of it"
        assert shared.glance((B,)) == [None]
        assert shared.glance((B, A)) == [None, value]
        await writing
        assert shared.glance((A,)) == [value]
