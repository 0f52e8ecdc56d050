"""The last steps of a move between real catalogs of both engines, and which target may be taken."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from catalog.copying.marks import read_marks, require_unmarked
from catalog.copying.moving import claim
from catalog.epochs import Epochs
from catalog.errors import CatalogUnavailable, CopyRefused
from catalog.leases import Leases
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.postgres_engine.catalog import PostgresCatalog
from catalog.prefixes import ENGINE
from core import crashpoints
from core.clock import SystemClock
from core.errors import StartRefused
from tests.catalog.conformance import get, put
from tests.catalog_copy.pair import DEPLOYMENT, ROWS, Pair
from tests.harness.cutting_proxy import cutting_proxy
from tests.harness.postgres_server import PostgresServer

# --- the switch ---


async def test_a_commit_of_somebody_who_was_taken_for_dead_is_moved_too(postgres_url: str, tmp_path: Path) -> None:
    source = await PostgresCatalog.open(postgres_url)
    target = await LmdbCatalog.open(tmp_path / "catalog")
    pair = Pair(source, target)
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
        pair = Pair(source, target)
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
        pair = Pair(source, target)

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
