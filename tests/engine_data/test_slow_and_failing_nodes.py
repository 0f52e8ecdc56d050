"""Nodes that fail or are slow, while writing and while reading: quorum, leaving behind, hedging, repair at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from backends.decorators import FaultyBackend
from backends.decorators.faults import Fault, FaultRule
from backends.errors import NoSpace
from backends.interface import Backend
from catalog.interface import Transaction
from core.workers import WorkerState
from engine import collection
from engine.bodies.store import BodySettings
from engine.classes import StorageClass, survives
from engine.collection import CollectionWorker
from engine.counters import EngineCounters
from engine.errors import StorageFull, Unavailable
from engine.layout_data import BODY, QUEUE_PIECE, SEGMENT, SHORT, prefix_end
from engine.repair import RepairWorker
from engine.segments.fetch import HEDGE_BURST
from engine.segments.write import WriteLimits
from erasure.scheme import Scheme
from tests.engine_data.world import World

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def rules() -> dict[int, list[FaultRule]]:
    return {number: [] for number in range(6)}


@pytest.fixture
async def faulty(tmp_path: Path, rules: dict[int, list[FaultRule]]) -> AsyncIterator[World]:
    def wrapper(number: int) -> Callable[[Backend], Backend]:
        return lambda backend: FaultyBackend(backend, seed=number, rules=rules[number])

    settings = BodySettings(threads=2, limits=WriteLimits(slow=0.3, stuck=2.0))
    world = await World(tmp_path, settings=settings, wrap={n: wrapper(n) for n in range(6)}).open()
    yield world
    for each in rules.values():
        each.clear()
    await world.close()


def counters(world: World) -> EngineCounters:
    return world.bodies.counters


@pytest.mark.parametrize("size", [20 * KIB, 9 * MIB])
@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.BREAK, Fault.LATE_ERROR])
async def test_one_failed_put_is_acknowledged_and_repaired(
    faulty: World, rules: dict[int, list[FaultRule]], size: int, fault: Fault
) -> None:
    rules[3].append(FaultRule("put", fault, times=1))
    kept = await faulty.keep(os.urandom(size))
    assert counters(faulty).pieces_failed == 1
    assert counters(faulty).segments_short == 1
    assert await faulty.count(SHORT) == 1
    await faulty.check(kept)
    worker = RepairWorker(faulty.bodies)
    while await worker.turn() is WorkerState.BUSY:
        pass
    assert counters(faulty).pieces_rebuilt == 1
    assert await faulty.count(SHORT) == 0
    (row,) = (await faulty.segments()).values()
    assert all(piece.node for piece in row.pieces)
    collector = CollectionWorker(faulty.bodies)
    while await collector.turn() is WorkerState.BUSY:
        pass
    assert len(faulty.files()) == 6  # nothing of the failed attempt stays
    await faulty.check(kept)


async def test_two_failed_puts_of_a_large_body_are_refused(faulty: World, rules: dict[int, list[FaultRule]]) -> None:
    for number in (0, 1):
        rules[number].append(FaultRule("put", Fault.BREAK, times=1))
    with pytest.raises(Unavailable):
        await faulty.keep(os.urandom(9 * MIB))
    collector = CollectionWorker(faulty.bodies)
    while await collector.turn() is WorkerState.BUSY:
        pass
    assert faulty.files() == []


async def test_full_nodes_say_so(faulty: World, rules: dict[int, list[FaultRule]]) -> None:
    kept = await faulty.keep(os.urandom(2 * MIB))
    for number in range(6):
        rules[number].append(FaultRule("put", Fault.ERROR, error=NoSpace))
    for size in (20 * KIB, 9 * MIB):
        with pytest.raises(StorageFull):
            await faulty.keep(os.urandom(size))
    await faulty.check(kept)  # reads go on


@pytest.mark.parametrize("size", [20 * KIB, 40 * MIB])
async def test_a_hanging_node_is_left_behind(faulty: World, rules: dict[int, list[FaultRule]], size: int) -> None:
    rules[5].append(FaultRule("put", Fault.HANG))
    kept = await faulty.keep(os.urandom(size))
    assert counters(faulty).pieces_slow >= 1
    assert counters(faulty).segments_short >= 1
    await faulty.check(kept)


async def test_a_slow_node_is_hedged(faulty: World, rules: dict[int, list[FaultRule]]) -> None:
    kept = await faulty.keep(os.urandom(30 * MIB))
    await faulty.check(kept)  # latencies are known, the budget is earned
    (row,) = (await faulty.segments()).values()
    for _ in range(5):
        await faulty.check(kept)
    rules[row.pieces[1].node[0] - 1].append(FaultRule("get", Fault.HANG))
    before = counters(faulty).shard_reads
    async with asyncio.timeout(30):
        assert await faulty.bodies.fetch(kept.ref, kept.key, 300_000, 100_000) == kept.data[300_000:400_000]
        got = await faulty.read(kept, 0, 2 * MIB)
    assert got == kept.data[: 2 * MIB]
    assert counters(faulty).hedges >= 2
    assert counters(faulty).hedge_wins >= 2
    assert counters(faulty).degraded_reads == 0
    assert counters(faulty).shard_reads - before < 20
    rules[row.pieces[1].node[0] - 1].clear()


async def test_hedges_are_at_most_a_tenth(faulty: World, rules: dict[int, list[FaultRule]]) -> None:
    """With every node slow, extra reads are bounded by the budget."""
    kept = await faulty.keep(os.urandom(8 * MIB))
    for _ in range(3):
        await faulty.check(kept)
    reads = counters(faulty).shard_reads
    for number in range(6):
        rules[number].append(FaultRule("get", Fault.DELAY, seconds=0.06))
    for _ in range(3):
        await faulty.check(kept)
    assert counters(faulty).hedges <= HEDGE_BURST + 0.1 * (counters(faulty).shard_reads + reads) + 1


async def test_errors_while_reading_are_answered_by_parity(faulty: World, rules: dict[int, list[FaultRule]]) -> None:
    kept = await faulty.keep(os.urandom(9 * MIB))
    for number in (1, 4):
        rules[number].append(FaultRule("get", Fault.ERROR))
    await faulty.check(kept)
    assert counters(faulty).degraded_reads > 0


@pytest.mark.parametrize("fault", [Fault.FLIP, Fault.SHORT])
async def test_lying_nodes_never_change_a_byte(faulty: World, rules: dict[int, list[FaultRule]], fault: Fault) -> None:
    kept = [await faulty.keep(os.urandom(size)) for size in (15 * KIB, 800 * KIB, 6 * MIB)]
    for number in (0, 3):
        rules[number].append(FaultRule("get", fault, probability=0.5))
    for _ in range(5):
        for each in kept:
            await faulty.check(each)
    assert counters(faulty).reports > 0
    assert counters(faulty).damaged_reads == 0


async def test_bodies_stored_with_lies_are_read_right(faulty: World, rules: dict[int, list[FaultRule]]) -> None:
    rules[2].append(FaultRule("put", Fault.FLIP))
    rules[4].append(FaultRule("put", Fault.LOSE))
    kept = [await faulty.keep(os.urandom(size)) for size in (15 * KIB, 800 * KIB, 6 * MIB)]
    for each in kept:
        await faulty.check(each)


def test_what_survives() -> None:
    wide = Scheme(4, 2)
    assert survives(dict.fromkeys("abcdef", 1), wide, 1)
    assert survives(dict.fromkeys("abcde", 1), wide, 1)
    assert not survives(dict.fromkeys("abcd", 1), wide, 1)
    assert survives({"a": 2, "b": 2, "c": 2}, wide, 1)
    assert not survives({"a": 3, "b": 3}, wide, 1)
    assert StorageClass.of("X", ["4+2", "2+2", "1+2"]).margin == 1
    assert StorageClass.of("X", "10+4").margin == 2


def _undeletable(rules: dict[int, list[FaultRule]], names: Sequence[str]) -> None:
    rules[0] += [FaultRule("delete", Fault.ERROR, prefix=name) for name in names]


async def queue_pieces(world: World, names: Sequence[str]) -> None:
    async def queue(txn: Transaction) -> None:
        for name in names:
            txn.put(QUEUE_PIECE + bytes([1]) * 16 + name.encode(), b"")

    await world.catalog.transact(queue)


@pytest.mark.parametrize("stuck", [1, 300], ids=["one", "more-than-a-batch"])
async def test_pieces_that_cannot_be_deleted_hold_up_no_other(
    faulty: World, rules: dict[int, list[FaultRule]], stuck: int
) -> None:
    names = [f"{1:016x}-{number:032x}" for number in range(stuck + 40)]
    await queue_pieces(faulty, names)
    _undeletable(rules, names[:stuck])
    collector = CollectionWorker(faulty.bodies)
    for _ in range(40):
        await collector.turn()
        faulty.placer.set_up(bytes([1]) * 16, True)  # as a probe finds it
    assert await faulty.count(QUEUE_PIECE) == stuck
    rules[0].clear()
    collector.force()
    for _ in range(6):
        await collector.turn()
    assert await faulty.count(QUEUE_PIECE) == 0


async def test_a_node_stays_up_when_some_of_its_pieces_cannot_be_deleted(
    faulty: World, rules: dict[int, list[FaultRule]]
) -> None:
    names = [f"{1:016x}-{number:032x}" for number in range(64)]
    await queue_pieces(faulty, names)
    _undeletable(rules, names[::8])
    await CollectionWorker(faulty.bodies).turn()
    assert await faulty.count(QUEUE_PIECE) == 8
    assert faulty.placer.is_up(bytes([1]) * 16)


async def test_an_orphan_that_cannot_be_deleted_holds_up_no_other(
    faulty: World, rules: dict[int, list[FaultRule]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "_BATCH", 1)
    for _ in range(4):
        await faulty.keep(os.urandom(3 * MIB))

    async def lose(txn: Transaction) -> None:
        for prefix in (SEGMENT, BODY):
            for key, _ in await txn.scan(prefix, prefix_end(prefix), limit=100, keys_only=True):
                txn.delete(key)

    await faulty.catalog.transact(lose)
    await faulty.epochs.mark_dead(faulty.epochs.epoch)
    (first, *others) = [path.name for path in faulty.files() if "/nodes/1/" in str(path)]
    assert len(others) == 3
    _undeletable(rules, [first])
    collector = CollectionWorker(faulty.bodies)
    while await collector.turn() is WorkerState.BUSY:
        pass
    assert [path.name for path in faulty.files()] == [first]
    assert await faulty.epochs.dead() == [], "an epoch is gone through again and again for one piece"
    rules[0].clear()
    collector.force()
    faulty.placer.set_up(bytes([1]) * 16, True)  # as a probe finds it
    while await collector.turn() is WorkerState.BUSY:
        pass
    assert faulty.files() == []
