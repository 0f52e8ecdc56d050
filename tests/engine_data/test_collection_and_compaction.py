"""What is dead is collected when no reader can want it; packs are merged under readers without a wrong byte."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.errors import RetryLater
from catalog.epochs import Epochs
from catalog.errors import CatalogFull
from catalog.interface import Transaction
from catalog.records import Codec, Record
from core import crashpoints
from core.buffers import Buffer
from core.clock import SystemClock
from core.workers import Worker, WorkerState
from engine import references
from engine.bodies.store import BodyStore
from engine.collection import CollectionWorker
from engine.compaction import CompactionWorker
from engine.errors import PreconditionFailed, Unavailable
from engine.layout_data import BODY, PACK_DEAD, QUEUE_BODY, QUEUE_PIECE, QUEUE_SEGMENT
from engine.records_data import PACK_ROW, PackRow
from erasure.keys import new_key
from tests.engine_data.world import World, chunks, no_outcome

KIB, MIB = 1 << 10, 1 << 20


async def run(worker: Worker) -> None:
    while await worker.turn() is WorkerState.BUSY:
        pass


async def compact(world: World) -> None:
    worker = CompactionWorker(world.bodies)
    worker.force()
    await run(worker)


async def test_everything_removed_leaves_no_file(world: World) -> None:
    kept = [await world.keep(os.urandom(size)) for size in (100, 10 * KIB, 10 * KIB, 3 * MIB, 70 * MIB)]
    assert world.files()
    for each in kept:
        await world.remove(each)
    await run(CollectionWorker(world.bodies))
    await compact(world)
    await run(CollectionWorker(world.bodies))
    assert world.files() == []
    for prefix in (BODY, QUEUE_BODY, QUEUE_SEGMENT, QUEUE_PIECE, PACK_DEAD):
        assert await world.count(prefix) == 0
    assert await world.segments() == {}
    assert world.bodies.counters.bodies_collected == 5


async def test_a_pin_holds_collection_back(world: World) -> None:
    kept = await world.keep(os.urandom(3 * MIB))
    pin = world.bodies.pin()
    await world.remove(kept)
    await run(CollectionWorker(world.bodies))
    await world.check(kept)
    pin.release()
    await run(CollectionWorker(world.bodies))
    assert world.files() == []


async def test_a_second_reference_keeps_the_body(world: World) -> None:
    kept = await world.keep(os.urandom(20 * KIB))
    other = os.urandom(16)

    async def add(txn: Transaction) -> None:
        await references.add(txn, kept.ref.id, other)

    await world.catalog.transact(add)
    await world.remove(kept)
    await run(CollectionWorker(world.bodies))
    await world.check(kept)
    kept.referrer = other
    await world.remove(kept)
    with pytest.raises(references.TargetGone):
        await world.catalog.transact(add)


async def test_compaction_merges_packs(world: World) -> None:
    kept = [await world.keep(os.urandom(10 * KIB + i)) for i in range(40)]
    assert await world.packs() == 40
    await compact(world)
    assert await world.packs() == 1
    for each in kept:
        await world.check(each)
    await run(CollectionWorker(world.bodies))
    assert len(world.files()) == 6
    for each in kept:
        await world.check(each)
    assert world.bodies.counters.bodies_moved == 40
    assert world.bodies.counters.compactions == 40


async def test_readers_across_compaction_and_collection(world: World) -> None:
    kept = [await world.keep(os.urandom(10 * KIB)) for _ in range(30)]
    for each in kept:
        await world.check(each)  # locations are cached now
    stop = asyncio.Event()

    async def reader(seed: int) -> int:
        chance, count = random.Random(seed), 0
        while not stop.is_set():
            each = chance.choice(kept)
            with world.bodies.pin():
                assert await world.bodies.fetch(each.ref, each.key, 0, len(each.data)) == each.data
            count += 1
            await asyncio.sleep(0)
        return count

    readers = [asyncio.create_task(reader(seed)) for seed in range(3)]
    await compact(world)
    await run(CollectionWorker(world.bodies))
    for _ in range(50):
        await asyncio.sleep(0.001)
    stop.set()
    assert min(await asyncio.gather(*readers)) > 0
    await run(CollectionWorker(world.bodies))
    assert len(world.files()) == 6


async def test_stale_location_is_looked_up_again(world: World) -> None:
    kept = [await world.keep(os.urandom(10 * KIB)) for _ in range(3)]
    old = {each.ref.id: world.bodies.locations.cached(each.ref.id) for each in kept}
    await compact(world)
    await run(CollectionWorker(world.bodies))
    for each in kept:
        row = old[each.ref.id]
        assert row is not None
        world.bodies.locations.put(each.ref.id, row)
        await world.check(each)
    assert world.bodies.counters.relocations == 3


async def test_half_dead_pack_is_rewritten(world: World) -> None:
    kept = await asyncio.gather(*(world.keep(os.urandom(30 * KIB)) for _ in range(20)))
    before = sum(path.stat().st_size for path in world.files())
    for each in kept[5:]:
        await world.remove(each)
    await run(CollectionWorker(world.bodies))
    assert await world.count(PACK_DEAD) == 15
    await compact(world)
    await run(CollectionWorker(world.bodies))
    assert sum(path.stat().st_size for path in world.files()) < before / 2
    for each in kept[:5]:
        await world.check(each)


async def test_release_during_compaction_stays_dead(world: World) -> None:
    """A body released between the copy and the move must not come back, and its copy is dead in the new pack."""
    kept = [await world.keep(os.urandom(10 * KIB)) for _ in range(3)]
    pause: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    class Stop(Exception):
        pass

    def stop(_: str) -> None:
        raise Stop

    crashpoints.arm("compaction-born", stop)
    with pytest.raises(Stop):
        await compact(world)
    pause.cancel()
    await world.remove(kept[0])
    await compact(world)
    await run(CollectionWorker(world.bodies))
    await compact(world)
    await run(CollectionWorker(world.bodies))
    for each in kept[1:]:
        await world.check(each)
    assert await world.count(BODY) == 2
    assert len(world.files()) == 6


@pytest.mark.parametrize("point", ["compaction-written", "compaction-born", "compaction-moved"])
async def test_compaction_cut_short_goes_on(world: World, point: str) -> None:
    kept = [await world.keep(os.urandom(10 * KIB)) for _ in range(10)]

    class Stop(Exception):
        pass

    def stop(_: str) -> None:
        raise Stop

    crashpoints.arm(point, stop)
    with pytest.raises(Stop):
        await compact(world)
    crashpoints.disarm()
    for each in kept:
        await world.check(each)
    await world.close()
    await world.open()
    for _ in range(2):
        await compact(world)
        await run(CollectionWorker(world.bodies))
    for each in kept:
        await world.check(each)
    assert len(world.files()) == 6


async def test_refused_commits_leave_nothing(world: World) -> None:
    async def refuse(txn: Transaction) -> None:
        raise PreconditionFailed("If-None-Match")

    for size in (100, 10 * KIB, 3 * MIB):
        stored = await world.bodies.store(
            chunks(os.urandom(size)), content_key=new_key(), storage_class="STANDARD", finish=no_outcome
        )
        with pytest.raises(PreconditionFailed):
            await world.bodies.commit([stored], refuse)
    await run(CompactionWorker(world.bodies))
    await run(CollectionWorker(world.bodies))
    assert world.files() == []
    assert await world.count(BODY) == 0


async def test_source_that_fails_leaves_nothing(world: World) -> None:
    async def broken() -> AsyncIterator[Buffer]:
        yield os.urandom(9 * MIB)
        raise ConnectionResetError("client gone")

    with pytest.raises(ConnectionResetError):
        await world.bodies.store(broken(), content_key=new_key(), storage_class="STANDARD", finish=no_outcome)
    await run(CollectionWorker(world.bodies))
    assert world.files() == []


async def test_cancelled_upload_leaves_nothing(world: World) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[Buffer]:
        while True:
            yield os.urandom(MIB)
            begun.set()
            await asyncio.sleep(0.001)

    task = asyncio.create_task(
        world.bodies.store(endless(), content_key=new_key(), storage_class="STANDARD", finish=no_outcome)
    )
    await begun.wait()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await run(CollectionWorker(world.bodies))
    assert world.files() == []


async def test_pieces_of_a_dead_epoch_are_collected(world: World) -> None:
    kept = await world.keep(os.urandom(2 * MIB))
    orphan = await world.bodies.store(
        chunks(os.urandom(5 * MIB)), content_key=new_key(), storage_class="STANDARD", finish=no_outcome
    )
    assert orphan.length == 5 * MIB
    assert len(world.files()) == 12
    await world.close()
    await world.open()
    await run(CollectionWorker(world.bodies))
    assert len(world.files()) == 6
    await world.check(kept)
    assert world.bodies.counters.epochs_collected >= 1
    assert await world.epochs.dead() == []


async def test_a_dead_epoch_cannot_commit(world: World) -> None:
    stored = await world.bodies.store(
        chunks(os.urandom(2 * MIB)), content_key=new_key(), storage_class="STANDARD", finish=no_outcome
    )
    await world.epochs.mark_dead(world.epochs.epoch)

    async def nothing(txn: Transaction) -> None:
        return None

    with pytest.raises(Unavailable):
        await world.bodies.commit([stored], nothing)
    assert await world.count(BODY) == 0


async def test_pieces_on_a_lost_node_wait_for_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = await world.keep(os.urandom(2 * MIB))
    backend = world.backends[2]
    original = backend.delete

    async def refuse(locator: bytes) -> None:
        raise RetryLater("away")

    monkeypatch.setattr(backend, "delete", refuse)
    await world.remove(kept)
    for _ in range(4):
        await CollectionWorker(world.bodies).turn()
    assert await world.count(QUEUE_PIECE) == 1
    assert world.bodies.counters.pieces_unreachable > 0
    monkeypatch.setattr(backend, "delete", original)
    await world.placer.probe(force=True)
    await run(CollectionWorker(world.bodies))
    assert world.files() == []
    assert await world.count(QUEUE_PIECE) == 0


async def test_reopening_finds_everything(world: World, tmp_path: Path) -> None:
    kept = [await world.keep(os.urandom(size)) for size in (0, 50, 10 * KIB, 2 * MIB)]
    await world.close()
    await world.open()
    for each in kept:
        await world.check(each)
    assert (tmp_path / "nodes").exists()


async def test_lost_slices_wait_for_a_catalog_that_takes_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.keep(os.urandom(20 * KIB))
    (pack,) = await world.segments()
    world.bodies.lost_slices.append((pack, b"b" * 16, 100))

    async def full(_: object) -> None:
        world.bodies.lost_slices.append((pack, b"c" * 16, 100))  # an upload fails meanwhile
        raise CatalogFull("no space")

    worker = CompactionWorker(world.bodies)
    with monkeypatch.context() as patch:
        patch.setattr(world.bodies.catalog, "transact", full)
        with pytest.raises(CatalogFull):
            await worker.standby()
    await worker.standby()
    assert await world.count(PACK_DEAD) == 2
    assert world.bodies.lost_slices == []


class _EarlierPackRow(Record, tag=1, kw_only=True, frozen=True):
    """A pack's row before it named its writer."""

    bodies: bytes
    lengths: tuple[int, ...]


def test_rows_of_packs_that_name_no_writer_and_their_readers() -> None:
    earlier = Codec(_EarlierPackRow)
    row = PackRow(bodies=bytes(16), lengths=(7,), epoch=5)
    assert PACK_ROW.decode(earlier.encode(_EarlierPackRow(bodies=bytes(16), lengths=(7,)))).epoch == 0
    assert earlier.decode(PACK_ROW.encode(row)).lengths == (7,)


async def test_the_pack_of_a_living_writer_is_compacted_once_its_lost_members_are_marked(world: World) -> None:
    """By another gateway, which can't know what this one has under way."""
    kept = await world.keep(os.urandom(20 * KIB))
    stored = await world.bodies.store(
        chunks(os.urandom(20 * KIB)), content_key=new_key(), storage_class="STANDARD", finish=no_outcome
    )

    async def refuse(txn: Transaction) -> None:
        raise PreconditionFailed("no")

    with pytest.raises(PreconditionFailed):
        await world.bodies.commit([stored], refuse)
    assert await world.packs() == 2
    epochs = await Epochs.register(world.catalog, SystemClock(), alone=False)
    other = BodyStore(world.catalog, epochs, world.placer)
    compaction = CompactionWorker(other)
    compaction.force()
    await run(compaction)
    assert await world.packs() == 2
    await CompactionWorker(world.bodies).standby()
    compaction.force()
    await run(compaction)
    assert await world.packs() == 1
    await world.check(kept)
    await other.close()
    await epochs.close()
