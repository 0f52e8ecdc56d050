"""Nodes vanish and rot: reads stay right, each mechanism counts, damage is proven, named and repaired."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from pathlib import Path

import pytest

from core.clock import SystemClock
from core.workers import Worker, WorkerState
from engine.errors import Damaged, Unavailable
from engine.layout_data import SHORT, SUSPECT
from engine.rebuild import rebuild_segment
from engine.repair import RecodeWorker, RepairWorker
from engine.scrub import scrub
from engine.segments.registry import Segment
from engine.suspicion import HealthWorker, suspicions
from tests.engine_data.world import Kept, World

KIB, MIB = 1 << 10, 1 << 20


async def run(worker: Worker) -> None:
    """Turns until idle."""
    while await worker.turn() is WorkerState.BUSY:
        pass


async def three_sizes(world: World) -> list[Kept]:
    return [await world.keep(os.urandom(size)) for size in (10 * KIB, 700 * KIB, 5 * MIB + 123)]


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)


def remove_node(world: World, number: int) -> None:
    shutil.rmtree(world.folder / "nodes" / str(number))


@pytest.mark.parametrize("lost", [(0, 1), (2, 4), (3, 5)])
async def test_two_nodes_lost(world: World, lost: tuple[int, int]) -> None:
    kept = await three_sizes(world)
    # of the large body one data piece at least, or nothing would need decoding
    (large,) = [row for row in (await world.segments()).values() if row.sealed_length > MIB]
    for index in lost:
        remove_node(world, large.pieces[index].node[0])
    for each in kept:
        await world.check(each)
    counters = world.bodies.counters
    assert counters.degraded_reads + counters.hedge_wins > 0  # on a busy machine parity may be faster than a refusal
    assert counters.decodes > 0
    assert counters.suspicions == 0  # a lost node is no proof against a piece


async def test_two_nodes_lost_while_reading(world: World) -> None:
    kept = await world.keep(os.urandom(40 * MIB))
    (row,) = (await world.segments()).values()
    got = bytearray()
    for_place = {4 * MIB: 0, 12 * MIB: 2}  # where in the body which data piece's node goes away
    async for view in world.bodies.read(kept.ref, kept.key, 0, len(kept.data)):
        got += view
        if len(got) in for_place:
            remove_node(world, row.pieces[for_place[len(got)]].node[0])
            await asyncio.sleep(1.2)  # until the backend looks again whether its open files are still there
    assert got == kept.data
    assert world.bodies.counters.degraded_reads > 0


async def test_three_nodes_lost_is_unavailable_then_returns(world: World) -> None:
    kept = [await world.keep(os.urandom(size)) for size in (5 * MIB, 70 * MIB)]
    for number in (1, 2, 3):
        (world.folder / "nodes" / str(number)).rename(world.folder / f"away-{number}")
    await asyncio.sleep(1.2)  # until the backends look again whether their folders are still there
    for each in kept:
        with pytest.raises(Unavailable):
            await world.read(each)
    for number in (1, 2, 3):
        (world.folder / f"away-{number}").rename(world.folder / "nodes" / str(number))
    await world.placer.probe(force=True)
    for each in kept:
        await world.check(each)


async def test_writes_go_narrow_and_are_recoded(world: World) -> None:
    for number in (1, 2):
        (world.folder / "nodes" / str(number)).rename(world.folder / f"away-{number}")
    await world.placer.probe(force=True)
    kept = await three_sizes(world)
    assert {(row.k, row.m) for row in (await world.segments()).values()} == {(2, 2)}
    assert world.bodies.counters.segments_narrow == 3
    assert await world.count(SHORT) == 3
    for each in kept:
        await world.check(each)
    for number in (1, 2):
        (world.folder / f"away-{number}").rename(world.folder / "nodes" / str(number))
    await world.placer.probe(force=True)
    await run(RecodeWorker(world.bodies))
    assert {(row.k, row.m) for row in (await world.segments()).values()} == {(4, 2)}
    assert world.bodies.counters.recodes == 3
    assert await world.count(SHORT) == 0
    for each in kept:
        await world.check(each)


async def test_no_scheme_fits(world: World) -> None:
    for number in (1, 2, 3, 4):
        remove_node(world, number)
    await world.placer.probe(force=True)
    with pytest.raises(Unavailable):
        await world.keep(os.urandom(2 * MIB))
    with pytest.raises(Unavailable):
        await world.keep(os.urandom(20 * KIB))
    small = await world.keep(b"inline needs no node")
    await world.check(small)


async def test_node_lost_unnoticed_before_a_small_write(world: World) -> None:
    """The first attempt meets two dead nodes; the second leaves them out and goes narrow."""
    remove_node(world, 1)
    remove_node(world, 4)
    kept = await world.keep(os.urandom(20 * KIB))
    await world.check(kept)
    assert world.bodies.counters.pieces_failed >= 2
    assert world.bodies.counters.segments_narrow == 1


@pytest.mark.parametrize("kind", ["flip", "truncate", "swap", "delete"])
async def test_rot_in_two_pieces(world: World, kind: str) -> None:
    kept = await three_sizes(world)
    chance = random.Random(kind)
    for row in (await world.segments()).values():
        one, two = (world.piece_path(row, index) for index in chance.sample(range(4), 2))
        if kind == "flip":
            for path in (one, two):
                flip(path, chance.randrange(path.stat().st_size // 2))
        elif kind == "truncate":
            for path in (one, two):
                os.truncate(path, 100)
        elif kind == "swap":
            first, second = one.read_bytes(), two.read_bytes()
            one.write_bytes(second)
            two.write_bytes(first)
        else:
            one.unlink()
            two.unlink()
    for each in kept:
        await world.check(each)
    counters = world.bodies.counters
    assert counters.reports > 0
    if kind in ("flip", "swap"):
        assert counters.frame_failures > 0
        assert counters.verified_reads > 0
    else:
        assert counters.pieces_missing > 0
        assert counters.degraded_reads > 0
    await run(HealthWorker(world.bodies, world.placer, SystemClock()))
    assert counters.suspicions == await world.count(SUSPECT) > 0
    named = await world.catalog.read(suspicions)
    assert len(named) == counters.suspicions
    checks = [check async for check in scrub(world.bodies, repair=True)]
    assert sum(check.repaired for check in checks) == 6
    assert not any(check.lost or check.problem for check in checks)
    assert await world.count(SUSPECT) == 0
    assert all(check.sound == 6 and not check.findings for check in [check async for check in scrub(world.bodies)])
    for each in kept:
        await world.check(each)


async def test_different_stripes_of_four_pieces(world: World) -> None:
    """No piece but two is whole, yet every stripe has k sound shards."""
    kept = await world.keep(os.urandom(8 * MIB))
    ((segment_id, row),) = (await world.segments()).items()
    for index in range(4):
        flip(world.piece_path(row, index), row.shard_size * index + 77)
    await world.check(kept)
    counters = world.bodies.counters
    assert counters.shard_mismatches >= 4
    await run(HealthWorker(world.bodies, world.placer, SystemClock()))
    found = await world.catalog.read(suspicions)
    assert {(index, stripe) for _, index, stripe, _ in found} == {(i, i) for i in range(4)}
    assert {segment for segment, *_ in found} == {segment_id}
    await run(RepairWorker(world.bodies))
    assert counters.pieces_rebuilt == 4
    assert await world.count(SUSPECT) == 0
    mismatches = counters.shard_mismatches
    await world.check(kept)
    assert counters.shard_mismatches == mismatches


async def test_suspects_are_read_as_last_resort(world: World) -> None:
    kept = await world.keep(os.urandom(2 * MIB))
    ((segment_id, row),) = (await world.segments()).items()
    for index in range(3):
        world.bodies.registry.suspect(segment_id, index, 0)
    world.bodies.registry.suspect(segment_id, 3, 0)
    await world.check(kept)
    assert Segment.of(segment_id, row).scheme.n == 6


async def test_damaged_footers_do_not_stop_reads(world: World) -> None:
    kept = await world.keep(os.urandom(3 * MIB))
    ((_, row),) = (await world.segments()).items()
    for index in range(6):
        path = world.piece_path(row, index)
        flip(path, path.stat().st_size - 10)
    flip(world.piece_path(row, 1), 5)
    await world.check(kept)
    assert world.bodies.counters.footer_failures > 0


async def test_too_much_rot_is_damaged_never_wrong(world: World) -> None:
    kept = await world.keep(os.urandom(2 * MIB))
    ((_, row),) = (await world.segments()).items()
    for index in range(3):
        flip(world.piece_path(row, index), 1000)
    with pytest.raises(Damaged):
        await world.read(kept)
    assert world.bodies.counters.damaged_reads > 0
    (check,) = [check async for check in scrub(world.bodies)]
    assert check.lost


async def test_rebuild_while_reading(world: World) -> None:
    kept = await world.keep(os.urandom(6 * MIB))
    ((segment_id, row),) = (await world.segments()).items()
    world.piece_path(row, 0).unlink()
    world.piece_path(row, 5).unlink()
    reads = [asyncio.create_task(world.read(kept)) for _ in range(3)]
    result = await rebuild_segment(world.bodies, segment_id, also=(0, 5))
    assert result.rebuilt == (0, 5)
    for got in await asyncio.gather(*reads):
        assert got == kept.data
    assert (await world.segments())[segment_id].generation == 1
