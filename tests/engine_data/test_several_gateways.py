"""Two gateways on one catalog: what one process knows and another does not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from catalog.epochs import Epochs
from catalog.interface import Transaction
from catalog.lmdb_engine.catalog import LmdbCatalog
from core.clock import SystemClock
from core.workers import WorkerState
from engine import compaction
from engine.bodies.store import BodyStore
from engine.compaction import CompactionWorker
from engine.errors import PreconditionFailed
from engine.rebuild import rebuild_segment
from engine.segments.proof import Finding
from engine.suspicion import HealthWorker, record_findings
from erasure.keys import new_key
from tests.catalog.clocks import ManualClock
from tests.engine_data.world import World, chunks, no_outcome

KIB = 1 << 10


@pytest.fixture
async def other(world: World) -> AsyncIterator[BodyStore]:
    """A second gateway's bodies."""
    epochs = await Epochs.register(world.catalog, SystemClock(), alone=False)
    bodies = BodyStore(world.catalog, epochs, world.placer)
    await bodies.start()
    yield bodies
    await bodies.close()


async def test_what_one_suspects_the_others_learn(
    world: World, other: BodyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.keep(os.urandom(2 << 20))
    ((segment_id, row),) = (await world.segments()).items()
    clock = ManualClock()
    health = HealthWorker(other, world.placer, clock)
    finding = Finding(0, 0, "shard")
    assert await record_findings(world.bodies, segment_id, row.generation, [finding], 1) == 1
    clock.advance(60)
    await health.turn()
    assert not other.registry.is_suspect(segment_id, 0, range(1)), "a catalog of its own need not be looked at"
    monkeypatch.setattr(LmdbCatalog, "exclusive", False)
    await health.turn()
    assert other.registry.is_suspect(segment_id, 0, range(1))


async def walk(worker: CompactionWorker) -> None:
    while await worker.turn() is WorkerState.BUSY:
        pass


async def test_slices_that_a_dead_gateway_lost_are_found(
    world: World, other: BodyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can't mark them any more, and large packs are not counted in every walk."""
    monkeypatch.setattr(compaction, "SMALL", 1)
    worker = CompactionWorker(world.bodies)
    await walk(worker)
    lost = await other.store(
        chunks(os.urandom(20 * KIB)), content_key=new_key(), storage_class="STANDARD", finish=no_outcome
    )

    async def refuse(txn: Transaction) -> None:
        raise PreconditionFailed("no")

    with pytest.raises(PreconditionFailed):
        await other.commit([lost], refuse)
    await walk(worker)
    assert await world.packs() == 1, "its writer may yet fill it"
    await world.epochs.mark_dead(other.epochs.epoch)
    await walk(worker)
    assert await world.packs() == 0


async def test_what_one_repaired_the_other_reads_though_more_is_damaged_meanwhile(
    world: World, other: BodyStore
) -> None:
    """What it remembers leads to a piece that is gone, and of the rest too few are left without the new one."""
    kept = await world.keep(os.urandom(900 * KIB))
    ((segment_id, row),) = (await world.segments()).items()
    await other.locations.get(kept.ref.id)
    await other.registry.get(segment_id)
    world.piece_path(row, 0).unlink()
    assert (await rebuild_segment(world.bodies, segment_id, also=(0,))).rebuilt == (0,)
    for index in (1, 4):
        os.truncate(world.piece_path(row, index), 100)
    assert await other.fetch(kept.ref, kept.key, 0, 100) == kept.data[:100]


async def test_rot_in_others_than_the_repaired_pieces_is_no_loss_to_whom_remembers_those(
    world: World, other: BodyStore
) -> None:
    kept = await world.keep(os.urandom(2 << 20))
    ((segment_id, row),) = (await world.segments()).items()
    await other.locations.get(kept.ref.id)
    await other.registry.get(segment_id)
    for index in (0, 1):
        world.piece_path(row, index).unlink()
    assert (await rebuild_segment(world.bodies, segment_id, also=(0, 1))).rebuilt == (0, 1)
    for index in (2, 3):
        path = world.piece_path(row, index)
        path.write_bytes(bytes(1000) + path.read_bytes()[1000:])
    assert await other.fetch(kept.ref, kept.key, 0, 1 << 20) == kept.data[: 1 << 20]
    assert other.counters.damaged_reads == 0
