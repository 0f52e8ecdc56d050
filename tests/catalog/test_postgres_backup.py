"""Backups of a catalog in PostgreSQL, and catalogs carried from one engine to the other."""

from __future__ import annotations

import asyncio
import io
from functools import partial
from pathlib import Path

import pytest

from catalog.backup import backup, load, restore
from catalog.errors import FeedTrimmed
from catalog.interface import Row, Transaction
from catalog.keys import prefix_end, u64
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.postgres_engine.catalog import PostgresCatalog
from catalog.prefixes import ENGINE


async def fill(catalog: PostgresCatalog, count: int) -> list[Row]:
    rows = [(ENGINE + u64(i) + b"k" * (i * 7 % 1500), b"v" * (i % 3000)) for i in range(count)]

    async def write(txn: Transaction) -> None:
        for key, value in rows:
            txn.put(key, value)

    await catalog.transact(write)
    return rows


async def rows_of(catalog: PostgresCatalog | LmdbCatalog) -> list[Row]:
    return await catalog.read(lambda reader: reader.scan(ENGINE, prefix_end(ENGINE), limit=100_000), long=True)


async def test_a_backup_while_others_write_becomes_an_embedded_catalog(postgres_url: str, tmp_path: Path) -> None:
    one, other = await PostgresCatalog.open(postgres_url), await PostgresCatalog.open(postgres_url)
    rows = await fill(one, 3000)
    stop = False

    async def write() -> None:
        turn = 0
        while not stop:
            turn += 1
            # Both or neither, at the two ends of the catalog.
            await other.transact(partial(_pair, turn))

    writing = asyncio.create_task(write())
    await asyncio.sleep(0.05)
    target = tmp_path / "backup"
    summary = await backup(one, target)
    ceiling = await one.sequence()
    stop = True
    await writing
    await one.close()
    await other.close()
    assert summary.sequence <= summary.ceiling <= ceiling
    await restore(target, tmp_path / "catalog")
    embedded = await LmdbCatalog.open(tmp_path / "catalog")
    try:
        found = await rows_of(embedded)
        assert [row for row in found if row[0][1:2] not in (b"a", b"\xff")] == rows
        first, last = await embedded.read(lambda reader: reader.get_many([ENGINE + b"a", ENGINE + b"\xffz"]))
        assert first == last is not None
        assert await embedded.sequence() >= summary.ceiling
    finally:
        await embedded.close()


async def _pair(turn: int, txn: Transaction) -> None:
    txn.put(ENGINE + b"a", b"%d" % turn)
    txn.put(ENGINE + b"\xffz", b"%d" % turn)


async def test_an_embedded_catalogs_backup_fills_a_database(postgres_url: str, tmp_path: Path) -> None:
    embedded = await LmdbCatalog.open(tmp_path / "catalog")
    rows = [(ENGINE + u64(i) + b"\x00\xff" * (i % 900), b"v%d" % i) for i in range(5000)]

    async def write(txn: Transaction) -> None:
        for key, value in rows:
            txn.put(key, value)

    await embedded.transact(write)
    stream = io.BytesIO()
    await backup(embedded, stream)
    await embedded.close()
    stream.seek(0)
    catalog = await PostgresCatalog.open(postgres_url)
    try:
        summary = await load(stream, catalog)
        assert await rows_of(catalog) == sorted(rows)
        sequence = await catalog.sequence()
        assert sequence >= summary.ceiling
        with pytest.raises(FeedTrimmed):
            await catalog.changes(0)
        await fill(catalog, 1)
        assert [change.sequence for change in await catalog.changes(sequence)] == [sequence + 1]
    finally:
        await catalog.close()
