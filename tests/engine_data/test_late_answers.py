"""Nodes that store a piece and whose answer does not come in time: the piece is found and deleted, by this process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.decorators import FaultyBackend
from backends.decorators.faults import Fault, FaultRule
from backends.decorators.wrapper import BackendWrapper
from backends.interface import Backend, PieceSource
from core.workers import WorkerState
from engine.bodies.store import BodySettings
from engine.collection import CollectionWorker
from engine.errors import Unavailable
from engine.rebuild import rebuild_segment
from engine.segments.write import WriteLimits
from tests.engine_data.world import World

KIB, MIB = 1 << 10, 1 << 20


class Mute(BackendWrapper):
    """Stores, but does not say so while `mute`."""

    mute = False

    async def put(self, name: str, source: PieceSource) -> bytes:
        locator = await self.inner.put(name, source)
        if self.mute:
            await asyncio.Event().wait()
        return locator


@pytest.fixture
async def late(tmp_path: Path) -> AsyncIterator[tuple[World, Mute, list[FaultRule]]]:
    """A world, its first node, and what goes wrong on its second."""
    made: list[Mute] = []
    rules: list[FaultRule] = []

    def first(backend: Backend) -> Backend:
        made.append(Mute(backend))
        return made[0]

    settings = BodySettings(threads=2, limits=WriteLimits(slow=0.3, stuck=1.0))
    wrap = {0: first, 1: lambda backend: FaultyBackend(backend, rules=rules)}
    world = await World(tmp_path, settings=settings, wrap=wrap).open()
    yield world, made[0], rules
    await world.close()


async def collect(world: World) -> None:
    worker = CollectionWorker(world.bodies)
    while await worker.turn() is WorkerState.BUSY:
        pass


@pytest.mark.parametrize("size", [20 * KIB, 3 * MIB])
async def test_a_piece_of_a_node_that_was_left_behind(late: tuple[World, Mute, list[FaultRule]], size: int) -> None:
    world, mute, _ = late
    mute.mute = True
    kept = await world.keep(os.urandom(size))
    assert world.bodies.counters.pieces_slow == 1
    await collect(world)
    assert len(world.files()) == 5
    await world.check(kept)


async def test_a_rebuilt_piece_whose_answer_is_late_or_lost(late: tuple[World, Mute, list[FaultRule]]) -> None:
    world, mute, rules = late
    kept = await world.keep(os.urandom(3 * MIB))
    ((segment_id, row),) = (await world.segments()).items()
    ours = {piece.node[0]: index for index, piece in enumerate(row.pieces)}
    mute.mute = True
    with pytest.raises(Unavailable):
        await rebuild_segment(world.bodies, segment_id, also=[ours[1]])
    rules.append(FaultRule("put", Fault.LATE_ERROR))
    with pytest.raises(Unavailable):
        await rebuild_segment(world.bodies, segment_id, also=[ours[2]])
    await collect(world)
    assert len(world.files()) == 6
    await world.check(kept)
