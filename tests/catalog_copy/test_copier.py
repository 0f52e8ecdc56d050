"""Copies between real catalogs of both engines while the source is written to, and what the comparison finds."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from catalog.copying.copier import Copier, CopyProgress
from catalog.copying.marks import read_marks, require_unmarked
from catalog.copying.movable import Movable
from catalog.copying.moving import Move, claim
from catalog.copying.rows import CONSUMERS, END, LISTED, runs
from catalog.epochs import Epochs
from catalog.errors import CatalogMoving, CatalogUnavailable, CopyDiffers, CopyRefused
from catalog.feed import FeedConsumer, FeedTrimmer
from catalog.interface import Catalog, Row
from catalog.keys import u64
from catalog.leases import Leases
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.postgres_engine.catalog import PostgresCatalog
from catalog.prefixes import ACCOUNTS, ENGINE, EPOCH, LEASE
from core import crashpoints
from core.clock import SystemClock
from core.errors import StartRefused
from tests.catalog.clocks import ManualClock
from tests.catalog.conformance import get, put, remove
from tests.catalog_copy.flipping import FLIPPING
from tests.harness.cutting_proxy import cutting_proxy
from tests.harness.postgres_server import PostgresServer

DEPLOYMENT = b"d" * 16
#: Also keys that LMDB takes apart, and values of the size of staged bodies.
ROWS: list[Row] = [
    (ENGINE + u64(i) + b"k" * (i % 7 * 200), random.Random(i).randbytes(60_000 if i % 97 == 0 else i % 300))
    for i in range(0, 4000, 2)
]


@dataclass
class Pair:
    """A source with rows, and an empty target of the other engine."""

    source: Movable
    target: Catalog
    url: str

    async def copier(self) -> Copier:
        return Copier(self.source, self.target, await claim(self.target, DEPLOYMENT), CopyProgress())

    async def move(self, *, shut_seconds: float = 30, alone: bool = True) -> Move:
        async def require() -> None:
            if not alone:
                raise CopyRefused("others use it")

        mark = await claim(self.target, DEPLOYMENT)
        return Move(
            self.source, self.target, mark=mark, consumer=u64(1), place="elsewhere", clock=SystemClock(),
            alone=require, shut_seconds=shut_seconds,
        )  # fmt: skip

    async def same(self) -> bool:
        return await contents(self.source) == await contents(self.target)


async def contents(catalog: Catalog) -> list[Row]:
    """Every row that a copy must have."""
    kept: list[Row] = []
    async for rows in catalog.export():
        kept += [(key, value) for key, value in rows if key >= LISTED or key[:1] in (LEASE, EPOCH)]
    return kept


@pytest.fixture(params=["lmdb to postgres", "postgres to lmdb"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str) -> AsyncIterator[Pair]:
    embedded = await LmdbCatalog.open(tmp_path / "catalog")
    networked = await PostgresCatalog.open(postgres_url)
    made: Pair
    if request.param == "lmdb to postgres":
        made = Pair(embedded, networked, postgres_url)
    else:
        made = Pair(networked, embedded, postgres_url)
    try:
        await made.source.load(ROWS, sequence=1)
        await put(made.source, (EPOCH + b"n", u64(7)), (LEASE + b"tx", b"1"), (ACCOUNTS + b"u", b"user"))
        yield made
    finally:
        crashpoints.disarm()
        await embedded.close()
        await networked.close()


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


# --- the switch ---


async def test_a_commit_of_somebody_who_was_taken_for_dead_is_moved_too(postgres_url: str, tmp_path: Path) -> None:
    source = await PostgresCatalog.open(postgres_url)
    target = await LmdbCatalog.open(tmp_path / "catalog")
    pair = Pair(source, target, postgres_url)
    late = (ENGINE + b"late", b"committed behind the gate")

    def commit(_: str) -> None:
        async def work() -> None:
            other = await PostgresCatalog.open(postgres_url)
            try:
                await put(other, late)
            finally:
                await other.close()

        thread = threading.Thread(target=asyncio.run, args=(work(),))
        thread.start()
        thread.join()

    try:
        await source.load(ROWS[:100], sequence=1)
        crashpoints.arm("copy-settled", commit)
        await (await pair.move()).run(switch=True)
        assert await get(target, late[0]) == late[1]
        assert await pair.same()
    finally:
        crashpoints.disarm()
        await source.close()
        await target.close()


async def test_nobody_waits_for_the_processes_of_the_source(pair: Pair) -> None:
    before = await Epochs.register(pair.source, SystemClock(), alone=False)
    await before.beat(b"a note")
    assert await Leases(pair.source, SystemClock(), holder=before.holder).acquire(b"work", 60)
    await (await pair.move()).run(switch=True)
    after = await Epochs.register(pair.target, SystemClock(), alone=False, check=require_unmarked)
    assert await after.live() == [after.epoch]
    assert await after.dead() == [before.epoch]
    assert await Leases(pair.target, SystemClock(), holder=after.holder, lives=after.lives).acquire(b"work", 60)


async def test_a_switch_that_nobody_waits_for_any_more_is_finished(pair: Pair) -> None:
    move = await pair.move()
    running = asyncio.create_task(move.run(switch=True))
    crashpoints.arm("copy-settled", lambda _: (running.cancel(), None)[1])
    with pytest.raises(asyncio.CancelledError):
        await running
    assert move.ended
    assert (await pair.source.read(read_marks))[0] is not None
    assert await pair.target.read(read_marks) == (None, None)
    assert await pair.same()


async def test_a_switch_that_is_called_off_before_leaves_everything_as_it_was(pair: Pair) -> None:
    move = await pair.move()
    running = asyncio.create_task(move.run(switch=True))
    crashpoints.arm("copy-compared", lambda _: (running.cancel(), None)[1])
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not move.ended
    await put(pair.source, ROWS[0])
    assert await pair.source.read(read_marks) == (None, None)
    with pytest.raises(StartRefused, match="is not whole"):
        await pair.target.read(require_unmarked)


async def test_who_is_not_alone_does_not_switch(pair: Pair) -> None:
    move = await pair.move(alone=False)
    with pytest.raises(CopyRefused, match="others use it"):
        await move.run(switch=True)
    await put(pair.source, ROWS[0])
    assert move.progress.rows == 0


async def test_writes_wait_for_a_target_that_falls_silent_only_for_so_long(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    source = await LmdbCatalog.open(tmp_path / "catalog")
    async with cutting_proxy(postgres.port) as proxy:
        target = await PostgresCatalog.open(postgres.url(postgres_url.rpartition("/")[2], port=proxy.port))
        pair = Pair(source, target, postgres_url)
        try:
            await put(source, *ROWS[:100])
            move = await pair.move(shut_seconds=0.3)
            crashpoints.arm("copy-compared", lambda _: proxy.stall())
            with pytest.raises(CopyRefused, match="this catalog goes on"):
                await move.run(switch=True)
            assert not move.ended
            assert not source.gate.shut
            await put(source, ROWS[0])
            proxy.flow()
            await (await pair.move()).run(switch=True)
            assert await pair.same()
        finally:
            crashpoints.disarm()
            proxy.flow()
            await target.close()
            await source.close()


async def test_a_target_that_goes_away_midway_ends_the_copy_which_can_be_repeated(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    source = await LmdbCatalog.open(tmp_path / "catalog")
    async with cutting_proxy(postgres.port) as proxy:
        address = postgres.url(postgres_url.rpartition("/")[2], port=proxy.port)
        target = await PostgresCatalog.open(address, patience=0.3)
        pair = Pair(source, target, postgres_url)

        def go_away(_: str) -> None:
            proxy.refusing = True
            proxy.cut()

        try:
            await source.load(ROWS, sequence=1)
            for switch in (False, True):
                crashpoints.arm("copy-run", go_away, nth=4)
                with pytest.raises(CatalogUnavailable):
                    await (await pair.move()).run(switch=switch)
                proxy.refusing = False
                await put(source, ROWS[0])
                assert await source.read(read_marks) == (None, None)
            move = await pair.move()
            await move.run(switch=True)
            assert move.progress.written < len(ROWS)
            assert await pair.same()
        finally:
            crashpoints.disarm()
            proxy.refusing = False
            await target.close()
            await source.close()


# --- the target ---


async def test_what_is_no_target_is_refused(pair: Pair) -> None:
    await claim(pair.target, DEPLOYMENT)
    with pytest.raises(CopyRefused, match="another deployment, " + DEPLOYMENT.hex()):
        await claim(pair.target, b"e" * 16)
    with pytest.raises(CopyRefused, match="is not empty"):
        await claim(pair.source, DEPLOYMENT)
    await (await pair.move()).run(switch=True)
    with pytest.raises(CopyRefused, match="is not empty"):
        await claim(pair.target, DEPLOYMENT)


async def test_a_later_copy_to_the_same_target_ends_an_earlier_one(pair: Pair) -> None:
    earlier = await pair.copier()
    later = await pair.copier()
    with pytest.raises(CopyRefused, match="copies to it too"):
        await earlier.copy(0)
    await later.copy(await pair.source.sequence())
    await later.compare()


async def test_a_gateway_that_enters_and_a_copy_exclude_each_other(postgres: PostgresServer) -> None:
    """In an empty database both find a place; one of them gets it."""
    outcomes = set()
    for number in range(6):
        url = postgres.url(await postgres.new_database())
        one, other = await PostgresCatalog.open(url), await PostgresCatalog.open(url)
        try:
            await other.read(require_unmarked)
            entering = Epochs.register(other, SystemClock(), check=require_unmarked)
            first, second = (entering, claim(one, DEPLOYMENT)) if number % 2 else (claim(one, DEPLOYMENT), entering)
            ended = await asyncio.gather(first, second, return_exceptions=True)
            refused = [type(outcome) for outcome in ended if isinstance(outcome, Exception)]
            assert refused in ([CopyRefused], [StartRefused])
            outcomes.update(refused)
        finally:
            await one.close()
            await other.close()
    assert outcomes


class Stopped(BaseException):
    """Stands for the end of the process."""


def _stop(_: str) -> None:
    raise Stopped
