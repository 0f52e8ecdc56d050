"""Nodes that take a call and never answer: others serve, and background work goes on without them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from backends.decorators import FaultyBackend
from backends.decorators.faults import Fault, FaultRule
from backends.interface import Backend
from catalog.interface import Transaction
from core.workers import WorkerState
from engine import collection, sweeping
from engine.bodies.store import BodySettings
from engine.collection import CollectionWorker
from engine.errors import Unavailable
from engine.layout_data import BODY, QUEUE_PIECE, SEGMENT
from engine.rebuild import rebuild_segment
from engine.segments.write import WriteLimits
from tests.engine_data.world import World

KIB, MIB = 1 << 10, 1 << 20
PATIENCE = 0.3  # seconds


@pytest.fixture
def rules() -> dict[int, list[FaultRule]]:
    return {number: [] for number in range(6)}


@pytest.fixture
async def faulty(tmp_path: Path, rules: dict[int, list[FaultRule]]) -> AsyncIterator[World]:
    def wrapper(number: int) -> Callable[[Backend], Backend]:
        return lambda backend: FaultyBackend(backend, seed=number, rules=rules[number])

    settings = BodySettings(threads=2, limits=WriteLimits(slow=PATIENCE, stuck=2 * PATIENCE))
    world = await World(tmp_path, settings=settings, wrap={n: wrapper(n) for n in range(6)}).open()
    world.bodies.read_tools.patience = PATIENCE
    yield world
    for each in rules.values():
        each.clear()
    await world.close()


@pytest.mark.parametrize("size", [20 * KIB, 5 * MIB])
async def test_two_hanging_nodes_hold_up_no_read(faulty: World, rules: dict[int, list[FaultRule]], size: int) -> None:
    """Without a token to hedge with, and when the hedge hangs too."""
    kept = await faulty.keep(os.urandom(size))
    (row,) = (await faulty.segments()).values()
    for index in (0, 4):
        rules[row.pieces[index].node[0] - 1].append(FaultRule("get", Fault.HANG))
    for _ in range(4):
        async with asyncio.timeout(10):
            await faulty.check(kept)
            assert await faulty.bodies.fetch(kept.ref, kept.key, 0, 10 * KIB) == kept.data[: 10 * KIB]


async def test_a_node_that_only_hangs_goes_down(faulty: World, rules: dict[int, list[FaultRule]]) -> None:
    kept = await faulty.keep(os.urandom(3 * MIB))
    ((segment_id, row),) = (await faulty.segments()).items()
    segment = await faulty.bodies.registry.get(segment_id)
    assert segment is not None
    node = row.pieces[2].node
    rules[node[0] - 1].append(FaultRule("get", Fault.HANG))
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await faulty.bodies.read_tools.fetch(segment, 2, 0, 100)
    assert not faulty.placer.is_up(node)
    await faulty.check(kept)


async def test_a_rebuild_onto_a_hanging_node_ends(faulty: World, rules: dict[int, list[FaultRule]]) -> None:
    kept = await faulty.keep(os.urandom(3 * MIB))
    ((segment_id, row),) = (await faulty.segments()).items()
    rules[row.pieces[1].node[0] - 1].append(FaultRule("put", Fault.HANG))
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable):
            await rebuild_segment(faulty.bodies, segment_id, also=[1])
    await faulty.check(kept)


async def test_a_hanging_delete_leaves_the_other_nodes_clean(
    faulty: World, rules: dict[int, list[FaultRule]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "PATIENCE", PATIENCE)
    kept = await faulty.keep(os.urandom(3 * MIB))
    rules[0].append(FaultRule("delete", Fault.HANG))
    await faulty.remove(kept)
    worker = CollectionWorker(faulty.bodies)
    async with asyncio.timeout(20):
        while await worker.turn() is WorkerState.BUSY:
            pass
    assert len(faulty.files()) == 1
    assert await faulty.count(QUEUE_PIECE) == 1
    rules[0].clear()
    worker.force()
    faulty.placer.set_up(bytes([1]) * 16, True)
    while await worker.turn() is WorkerState.BUSY:
        pass
    assert faulty.files() == []
    assert await faulty.count(QUEUE_PIECE) == 0


async def orphans(world: World) -> None:
    """Six pieces without rows, of an epoch that is dead."""
    kept = await world.keep(os.urandom(3 * MIB))
    (segment_id,) = await world.segments()

    async def lose(txn: Transaction) -> None:
        txn.delete(SEGMENT + segment_id)
        txn.delete(BODY + kept.ref.id)

    await world.catalog.transact(lose)
    await world.epochs.mark_dead(world.epochs.epoch)


async def test_a_list_that_hangs_holds_up_no_other_node(
    faulty: World, rules: dict[int, list[FaultRule]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "PATIENCE", PATIENCE)
    await orphans(faulty)
    rules[2].append(FaultRule("list", Fault.HANG))
    worker = CollectionWorker(faulty.bodies)
    async with asyncio.timeout(20):
        while await worker.turn() is WorkerState.BUSY:
            pass
        assert [path.relative_to(faulty.folder).parts[1] for path in faulty.files()] == ["3"]
        worker.force()
        while await worker.turn() is WorkerState.BUSY:
            pass
    rules[2].clear()
    faulty.placer.set_up(bytes([3]) * 16, True)
    while await worker.turn() is WorkerState.BUSY:
        pass
    assert faulty.files() == []


async def test_dead_epochs_are_collected_beside_steady_work(faulty: World) -> None:
    await orphans(faulty)
    worker = CollectionWorker(faulty.bodies)
    for turn in range(10 * collection.SWEEP_EVERY):
        faulty.bodies.trash.add(bytes([1]) * 16, f"{1:016x}-{turn:032x}".encode())
        assert await worker.turn() is WorkerState.BUSY
    assert faulty.files() == []
    assert await faulty.epochs.dead() == []
