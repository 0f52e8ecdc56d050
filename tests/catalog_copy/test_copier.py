"""Copies between real catalogs of both engines while the source is written to, and what the comparison finds."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import asyncpg
import pytest

from catalog.copying.copier import Copier, CopyProgress
from catalog.copying.marks import read_marks, require_unmarked
from catalog.copying.moving import claim
from catalog.copying.rows import CONSUMERS, END, LISTED, runs
from catalog.errors import CatalogMoving, CopyDiffers, CopyRefused
from catalog.feed import FeedConsumer, FeedTrimmer
from catalog.interface import Row
from catalog.keys import u64
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.postgres_engine.catalog import PostgresCatalog
from catalog.prefixes import ENGINE, LEASE
from core import crashpoints
from core.errors import StartRefused
from tests.catalog.clocks import ManualClock
from tests.catalog.conformance import get, put, remove
from tests.catalog_copy.flipping import FLIPPING
from tests.catalog_copy.pair import DEPLOYMENT, ROWS, Pair

# --- what a copy holds ---


async def test_whatever_is_written_meanwhile_is_there(pair: Pair) -> None:
    """Puts, overwrites and deletes before, within and behind where the copy is, until it is told to end."""
    chance, stop = random.Random(3), asyncio.Event()

    async def write(seed: int) -> int:
        count = 0
        while not stop.is_set():
            key = ENGINE + u64(chance.randrange(4000)) + b"k" * (seed % 7 * 200)
            if chance.random() < 0.3:
                await remove(pair.source, key)
            else:
                await put(pair.source, (key, chance.randbytes(40)), (LEASE + b"x%d" % seed, chance.randbytes(8)))
            count += 1
        return count

    writers = [asyncio.create_task(write(seed)) for seed in range(4)]
    move = await pair.move()
    await move.run(switch=False)
    assert (await pair.target.read(read_marks))[1] is not None
    await (await pair.move()).run(switch=True)
    stop.set()
    outcomes = await asyncio.gather(*writers, return_exceptions=True)
    assert all(isinstance(outcome, int | CatalogMoving) for outcome in outcomes), outcomes
    assert await pair.same()
    moved, copy = await pair.source.read(read_marks)
    assert (moved is not None, copy) == (True, None)
    assert await pair.target.read(read_marks) == (None, None)
    assert await pair.target.sequence() > await pair.source.sequence()
    with pytest.raises(CatalogMoving):
        await put(pair.source, ROWS[0])
    await put(pair.target, ROWS[0])


async def test_what_was_cut_short_goes_on_and_writes_nothing_twice(pair: Pair) -> None:
    copier = await pair.copier()
    crashpoints.arm("copy-run", _stop, nth=5)
    with pytest.raises(Stopped):
        await copier.copy(await pair.source.sequence())
    with pytest.raises(StartRefused, match="is not whole"):
        await pair.target.read(require_unmarked)
    first = copier.progress.written
    assert 0 < first < len(ROWS)
    move = await pair.move()
    await move.run(switch=False)
    assert first + move.progress.written <= len(ROWS) + 10
    assert await pair.same()
    again = await pair.move()
    await again.run(switch=False)
    assert again.progress.written == again.progress.removed == 0
    with pytest.raises(StartRefused, match="nobody switched to"):
        await pair.target.read(require_unmarked)


# --- what the comparison finds ---


@pytest.mark.parametrize("change", ["differs", "is missing in the copy", "is only in the copy"])
async def test_one_row_that_is_not_the_same_is_found_and_mended(pair: Pair, change: str) -> None:
    copier = await pair.copier()
    await copier.copy(await pair.source.sequence())
    key, value = ROWS[1234]
    if change == "differs":
        await pair.target.load([(key, bytes((value[0] ^ 1,)) + value[1:])], sequence=0)
    elif change == "is missing in the copy":
        await remove(pair.target, key)
    else:
        key += b"\0"
        await put(pair.target, (key, value))
    with pytest.raises(CopyDiffers, match=f"{key[:48].hex()} {change}"):
        await copier.compare()
    with pytest.raises(StartRefused, match="is not whole"):
        await pair.target.read(require_unmarked)
    move = await pair.move()
    await move.run(switch=False)
    assert move.progress.written + move.progress.removed <= 4
    assert move.progress.compared >= len(ROWS)
    assert await pair.same()


async def test_a_target_that_keeps_something_else_than_it_was_given_is_found(postgres_url: str, tmp_path: Path) -> None:
    """Also in the last step, where only what changed is read back."""
    source = await LmdbCatalog.open(tmp_path / "catalog")
    target = await PostgresCatalog.open(postgres_url)
    try:
        await put(source, *ROWS[:50])
        copier = Copier(source, target, await claim(target, DEPLOYMENT), CopyProgress())
        await copier.copy(await source.sequence())
        await copier.compare()
        connection = await asyncpg.connect(postgres_url)
        await connection.execute(FLIPPING)
        await connection.close()
        await put(source, (ROWS[7][0], b"new"))
        with pytest.raises(CopyDiffers, match=f"{ROWS[7][0][:48].hex()} differs"):
            await copier.settle()
    finally:
        await source.close()
        await target.close()


async def test_runs_are_bounded_in_bytes(pair: Pair) -> None:
    sizes, rows = [], 0

    async def scan(start: bytes, end: bytes, limit: int) -> list[Row]:
        return await pair.source.read(lambda reader: reader.scan(start, end, limit=limit))

    await pair.source.load([(ENGINE + b"\xf0" + u64(i), b"v" * 60_000) for i in range(400)], sequence=0)
    async for run, _, _ in runs(scan, LISTED, END):
        rows += len(run)
        sizes.append(sum(len(key) + len(value) for key, value in run))
    assert rows == len(ROWS) + 401
    assert sorted(sizes)[-2] < 5 << 20, "but for the first that meets large rows"
    assert max(sizes) < 32 << 20


# --- the feed ---


@pytest.mark.parametrize("days", [0.9, 2])
async def test_the_feed_is_kept_for_a_slow_copy_but_not_for_ever(pair: Pair, days: float) -> None:
    clock = ManualClock()
    clock.jump_to_now()
    trimmer = FeedTrimmer(pair.source, clock, keep_seconds=10, max_seconds=86_400)
    consumer = FeedConsumer(pair.source, CONSUMERS + u64(1))
    copier = await pair.copier()
    await copier.copy(await consumer.register())
    await put(pair.source, (ROWS[3][0], b"changed meanwhile"))
    await pair.source.sequence()
    clock.advance(days * 86_400)
    await trimmer.turn()
    if days < 1:
        await copier.compare()
    else:
        with pytest.raises(CopyRefused, match="longer than changes are kept"):
            await copier.compare()
        again = await pair.move()
        await again.run(switch=False)
        assert again.progress.written < 5
    assert await get(pair.target, ROWS[3][0]) == b"changed meanwhile"
    assert await pair.same()


class Stopped(BaseException):
    """Stands for the end of the process."""


def _stop(_: str) -> None:
    raise Stopped
