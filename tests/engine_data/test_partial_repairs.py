"""Repairs that can't do everything at once: what stays damaged stays known."""

from __future__ import annotations

import os

from core.clock import SystemClock
from core.workers import WorkerState
from engine.layout_data import SUSPECT
from engine.rebuild import rebuild_segment
from engine.records_data import SegmentRow
from engine.repair import RepairWorker
from engine.scrub import check_segment
from tests.engine_data.world import World

MIB = 1 << 20


def spoil(world: World, row: SegmentRow, index: int) -> None:
    path = world.piece_path(row, index)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


async def repair(world: World) -> None:
    worker = RepairWorker(world.bodies)
    for _ in range(10):
        if await worker.turn() is not WorkerState.BUSY:
            break


async def test_damage_that_found_no_node_is_not_forgotten(world: World) -> None:
    """Two parity pieces are damaged, which no read would find again, and there is a node for one of them only."""
    kept = await world.keep(os.urandom(3 * MIB))
    ((segment_id, row),) = (await world.segments()).items()
    for index in (4, 5):
        spoil(world, row, index)
    found = await check_segment(world.bodies, segment_id, now_us=SystemClock().now_us())
    assert found is not None
    assert {finding.index for finding in found.findings} == {4, 5}
    world.placer.set_up(row.pieces[4].node, False)
    result = await rebuild_segment(world.bodies, segment_id)
    assert len(result.rebuilt) == len(result.missing) == 1
    (left,) = result.missing
    assert await world.count(SUSPECT) == 1
    assert world.bodies.registry.is_suspect(segment_id, left, range(1))
    world.placer.set_up(row.pieces[4].node, True)
    await repair(world)
    assert await world.count(SUSPECT) == 0
    whole = await check_segment(world.bodies, segment_id)
    assert whole is not None
    assert whole.sound == 6
    await world.check(kept)


async def test_damage_that_another_gateway_proved_is_repaired(world: World) -> None:
    """The rows count, not what this process remembers of them."""
    kept = await world.keep(os.urandom(3 * MIB))
    ((segment_id, row),) = (await world.segments()).items()
    spoil(world, row, 5)
    await check_segment(world.bodies, segment_id, now_us=1)
    world.bodies.registry.clear_suspects(segment_id)
    await repair(world)
    assert await world.count(SUSPECT) == 0
    whole = await check_segment(world.bodies, segment_id)
    assert whole is not None
    assert whole.sound == 6
    await world.check(kept)
