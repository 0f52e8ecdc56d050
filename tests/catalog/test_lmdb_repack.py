"""Rewriting the catalog's file densely while it is in use."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import lmdb
import pytest

from catalog.errors import CatalogFailed, CatalogFull
from catalog.interface import Row
from catalog.keys import u64
from catalog.lmdb_engine import catalog as engine
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.lmdb_engine.repack import COPY_FOLDER, Repacker
from catalog.prefixes import ENGINE, EPOCH
from core.workers import WorkerState
from tests.catalog.conformance import A, B, get, put, scan


async def scattered(catalog: LmdbCatalog, count: int = 6000) -> list[Row]:
    """Rows under random keys, as the engine writes them."""
    rng = random.Random(8)
    rows = [(ENGINE + rng.randbytes(32) + b"k" * (i % 50 * 15), rng.randbytes(90)) for i in range(count)]
    for i in range(0, count, 100):
        await put(catalog, *rows[i : i + 100])
    return sorted(rows)


async def test_it_shrinks_and_keeps_everything(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path)
    rows = await scattered(catalog)
    sequence, before = await catalog.sequence(), catalog.file_bytes()
    changes = await catalog.changes(0)
    await catalog.repack()
    assert catalog.file_bytes() < 0.75 * before
    assert await scan(catalog) == rows
    assert await catalog.sequence() == sequence
    assert await catalog.changes(0) == changes
    await put(catalog, (A, b"1"))
    await catalog.repack()
    await catalog.close()
    catalog = await LmdbCatalog.open(tmp_path)
    assert await get(catalog, A) == b"1"
    assert len(await scan(catalog)) == len(rows) + 1
    assert await catalog.sequence() == sequence + 1
    await catalog.close()
    assert not (tmp_path / COPY_FOLDER).exists()


async def test_reads_and_writes_go_on_around_it(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path)
    rows = await scattered(catalog, 3000)
    stop = False
    written = 0

    async def write() -> None:
        nonlocal written
        while not stop:
            written += 1
            await put(catalog, (b"\x20" + u64(written), b""))

    async def read() -> None:
        while not stop:
            assert await get(catalog, rows[5][0]) == rows[5][1]
            assert len(await scan(catalog, limit=20)) == 20
            await asyncio.sleep(0)

    async def read_long() -> None:
        while not stop:
            found = await catalog.read(lambda r: r.scan(ENGINE, b"\x11", limit=5000), long=True)
            assert found == rows
            exported = [row async for run in catalog.export() for row in run]
            assert len(exported) >= len(rows)

    tasks = [asyncio.create_task(work()) for work in (write, write, read, read_long)]
    for _ in range(5):
        await catalog.repack()
        await catalog.wait_changes(catalog.known_sequence + 5)
    stop = True
    await asyncio.gather(*tasks)
    assert await scan(catalog) == rows
    assert len(await scan(catalog, b"\x20", b"\x21")) == written
    await catalog.close()


async def test_no_space_for_the_copy_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = await LmdbCatalog.open(tmp_path)
    await put(catalog, (A, b"1"))

    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engine, "copy_dense", full)
    with pytest.raises(CatalogFull):
        await catalog.repack()
    await put(catalog, (B, b"2"))
    assert await scan(catalog) == [(A, b"1"), (B, b"2")]
    await catalog.close()


async def test_an_exchange_in_doubt_ends_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy has taken the file's place, but whether durably is unknown."""
    catalog = await LmdbCatalog.open(tmp_path)
    await put(catalog, (A, b"1"))
    exchange = type(catalog._environment).exchange

    def unsynced(self: object, copy: Path) -> None:
        exchange(catalog._environment, copy)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(type(catalog._environment), "exchange", unsynced)
    with pytest.raises(CatalogFailed):
        await catalog.repack()
    with pytest.raises(CatalogFailed):
        await put(catalog, (B, b"2"))
    assert await get(catalog, A) == b"1"
    await catalog.close()


async def test_cancelled_it_lets_the_catalog_go_on(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path)
    rows = await scattered(catalog, 2000)
    for pause in (0, 0.001, 0.004, 0.01):
        task = asyncio.create_task(catalog.repack())
        await asyncio.sleep(pause)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(put(catalog, (b"\x20", b"")), 5)
    assert await scan(catalog) == rows
    await catalog.close()


async def test_an_interrupted_copy_is_cleared_away(tmp_path: Path) -> None:
    await (await LmdbCatalog.open(tmp_path)).close()
    (tmp_path / COPY_FOLDER).mkdir()
    lmdb.open(str(tmp_path / COPY_FOLDER)).close()
    await (await LmdbCatalog.open(tmp_path)).close()
    assert not (tmp_path / COPY_FOLDER).exists()


async def test_the_worker_waits_for_idleness_and_growth(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path)
    worker = Repacker(catalog, least_bytes=100_000)
    assert await worker.turn() is WorkerState.IDLE
    await scattered(catalog, 2000)
    before = catalog.file_bytes()
    await worker.turn()
    assert catalog.file_bytes() == before
    await put(catalog, (EPOCH + b"beat", b"1"))  # heartbeats never end
    await worker.turn()
    assert catalog.file_bytes() < before
    for _ in range(3):
        await put(catalog, (EPOCH + b"beat", b"2"))
        await worker.turn()
    assert worker.report().counters["repacked"] == 1
    await catalog.close()


async def test_forced_the_worker_waits_for_nothing(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path)
    worker = Repacker(catalog, most_bytes=1)
    await scattered(catalog, 2000)
    before = catalog.file_bytes()
    await worker.turn()
    assert catalog.file_bytes() == before
    worker.force()
    await worker.turn()
    assert catalog.file_bytes() < before
    await worker.turn()
    assert worker.report().counters["repacked"] == 1
    await catalog.close()


@pytest.mark.parametrize("forced", [False, True])
async def test_the_worker_leaves_a_long_read_alone(tmp_path: Path, forced: bool) -> None:
    """It would wait for its end, and every commit with it: a comparison of catalogs reads for minutes."""
    catalog = await LmdbCatalog.open(tmp_path)
    worker = Repacker(catalog, least_bytes=100_000)
    await scattered(catalog, 2000)
    await worker.turn()
    if forced:
        worker.force()
    async with catalog.view() as view:
        await asyncio.wait_for(worker.turn(), 5)
        await asyncio.wait_for(put(catalog, (EPOCH + b"beat", b"1")), 5)
        assert await view.get(EPOCH + b"beat") is None
    assert worker.report().counters["repacked"] == 0
    await worker.turn()
    assert worker.report().counters["repacked"] == 1
    await catalog.close()
