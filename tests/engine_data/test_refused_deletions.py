"""A piece that its node refuses to delete is tried again, ever more rarely, and costs nothing in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from backends.decorators import FaultyBackend
from backends.decorators.faults import Fault, FaultRule
from catalog.interface import Transaction
from core.workers import WorkerState
from engine.backoff import FIRST, MOST, Backoff
from engine.collection import CollectionWorker
from engine.layout_data import QUEUE_PIECE
from tests.catalog.clocks import ManualClock
from tests.engine_data.world import World

NODE = bytes([1]) * 16
STUCK = [f"{1:016x}-{number:031x}0" for number in range(300)]  # more than a turn takes


@pytest.fixture
async def refusing(tmp_path: Path) -> AsyncIterator[World]:
    """A world whose first node does not delete the pieces STUCK."""
    rules = [FaultRule("delete", Fault.ERROR, prefix=name) for name in STUCK]
    world = await World(tmp_path, wrap={0: lambda backend: FaultyBackend(backend, rules=rules)}).open()
    yield world
    await world.close()


def tries(world: World) -> int:
    node = world.backends[0]
    assert isinstance(node, FaultyBackend)
    return node.injected["delete", Fault.ERROR]


async def queue(world: World, names: Iterable[str]) -> None:
    async def put(txn: Transaction) -> None:
        for name in names:
            txn.put(QUEUE_PIECE + NODE + name.encode(), b"")

    await world.catalog.transact(put)


async def walk(world: World, collector: CollectionWorker) -> None:
    """Turns over the whole queue; the node answers, whatever it refuses."""
    for _ in range(4):
        await collector.turn()
        world.placer.set_up(NODE, True)


async def test_the_pauses_grow_up_to_a_bound(refusing: World) -> None:
    clock = ManualClock()
    await queue(refusing, STUCK[:1])
    collector = CollectionWorker(refusing.bodies, monotonic=clock.monotonic)
    pauses: list[float] = []
    last = 0.0
    await walk(refusing, collector)
    while len(pauses) < 15:
        seen = tries(refusing)
        clock.advance(FIRST / 4)
        last += FIRST / 4
        await walk(refusing, collector)
        assert tries(refusing) <= seen + 1
        if tries(refusing) > seen:
            pauses.append(last)
            last = 0.0
    for number, pause in enumerate(pauses):
        longest = min(MOST, FIRST * 2**number)
        assert longest / 2 <= pause <= longest + FIRST / 4


async def test_what_is_not_due_holds_up_no_other(refusing: World) -> None:
    clock = ManualClock()
    beside = [f"{name[:-1]}1" for name in STUCK]  # so that the node is seen to answer
    await queue(refusing, [*STUCK, *beside])
    collector = CollectionWorker(refusing.bodies, monotonic=clock.monotonic)
    await walk(refusing, collector)
    assert await refusing.count(QUEUE_PIECE) == tries(refusing) == len(STUCK)
    assert collector.report().counters["refused"] == len(STUCK)
    await queue(refusing, [f"{2:016x}-{number:032x}" for number in range(40)])  # behind them
    turns = 0
    while await collector.turn() is WorkerState.BUSY:
        turns += 1
        assert turns < 20, "busy for ever with what is not due"
    assert await refusing.count(QUEUE_PIECE) == tries(refusing) == len(STUCK)
    collector.force()
    await walk(refusing, collector)
    assert tries(refusing) > len(STUCK)


async def test_what_a_node_refused_before_it_went_down_is_due_when_it_is_back(refusing: World) -> None:
    await queue(refusing, STUCK)
    collector = CollectionWorker(refusing.bodies)
    await collector.turn()  # all of these refusals: the node is taken to be down
    assert not refusing.placer.is_up(NODE)
    assert collector.report().counters["refused"] == 0


def test_the_memory_of_refusals_is_bounded() -> None:
    backoff: Backoff[int] = Backoff(limit=10)
    for number in range(100):
        backoff.refused(number)
    assert len(backoff) == 10
    assert backoff.is_due(0)
    assert not backoff.is_due(99)
    backoff.settled(99)
    assert backoff.is_due(99)
