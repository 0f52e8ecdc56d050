"""In a quiet deployment snapshots take little more than the catalog's rows do, and writing them comes to an end."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.decorators import Fault, FaultRule, FaultyBackend
from backends.memory import MemoryBackend
from catalog.hold import lift_hold, put_hold
from catalog.interface import Catalog
from catalog.memory import MemoryCatalog
from catalog.postgres_engine.catalog import PostgresCatalog
from catalog.prefixes import ENGINE
from core.workers import WorkerState
from engine.snapshots.rows import STATE_KEY, STATE_ROW, ChainRow
from engine.snapshots.worker import SnapshotLimits
from tests.snapshots.world import SnapshotWorld, chains_on, names_on

EVERY = 4.0
LIMITS = SnapshotLimits(every=EVERY, retention=86_400.0)
STAGED = 50_000  # bytes of a body that waits for its pack
HOUR = 3600.0


async def started(limits: SnapshotLimits = LIMITS, catalog: Catalog | None = None) -> SnapshotWorld:
    world = await SnapshotWorld(catalog or MemoryCatalog(), limits=limits).open()
    await world.change()
    await world.settle()
    return world


async def burst(world: SnapshotWorld, bodies: int = 100) -> None:
    """Bodies that are in the catalog for a moment, with a point between; what is left of each is a small row."""
    keys = [ENGINE + b"body-%06d" % world.random.randrange(10**6) for _ in range(bodies)]
    await world.put({key: world.random.randbytes(STAGED) for key in keys})
    await world.settle()
    await world.put({key: world.random.randbytes(300) for key in keys})
    await world.settle()


async def pass_time(world: SnapshotWorld, seconds: float, step: float = EVERY) -> None:
    """What the runner does meanwhile."""
    end = world.clock.ahead + seconds
    while world.clock.ahead < end:
        world.clock.ahead += step
        while await world.worker.turn() is WorkerState.BUSY:
            pass


async def active_of(world: SnapshotWorld) -> ChainRow:
    active = (await world.state()).active
    assert active is not None
    return active


def stored(world: SnapshotWorld) -> int:
    """Bytes that all snapshots take on the nodes."""
    found = 0
    for backend in world.backends:
        assert isinstance(backend, MemoryBackend)
        found += sum(len(piece) for piece in backend._pieces.values())
    return found


def written(world: SnapshotWorld) -> int:
    return world.worker.report().counters["bytes"]


async def test_a_base_follows_and_the_former_chain_goes(tmp_path: Path) -> None:
    world = await started()
    await burst(world)
    first, rows = await active_of(world), sum(len(key) + len(value) for key, value in world.rows.items())
    assert stored(world) > 7_000_000
    await pass_time(world, 12.0)
    assert await active_of(world) == first, "it was not quiet for long"
    await pass_time(world, 48.0)
    second = await active_of(world)
    assert second.id > first.id
    assert chains_on(world) == {second.id}
    assert (await world.state()).retired == ()
    assert stored(world) < 4 * rows
    _, restored = await world.restore(tmp_path / "restored", without=(2, 5))
    assert restored == world.rows


async def test_one_is_enough() -> None:
    world = await started()
    await burst(world)
    await pass_time(world, 60.0)
    first, before = await active_of(world), written(world)
    await pass_time(world, 11 * HOUR, step=20.0)
    assert await active_of(world) == first
    assert written(world) == before


async def test_none_is_begun_while_changes_come() -> None:
    world = await started()
    await burst(world)
    first = await active_of(world)
    for _ in range(30):
        await world.change(20, size=6000)  # some 50 KB
        await pass_time(world, EVERY)
    assert (await active_of(world)).id == first.id


async def test_a_trickle_is_no_reason_to_wait_for_ever_nor_to_write_again_and_again() -> None:
    world = await started()
    await burst(world)
    active, before, changes = await active_of(world), written(world), 0
    seen = {active.id}
    for _ in range(1500):
        await world.change(2, size=1000, keys=1000)
        last, bytes_then = active.id, active.change_bytes
        await pass_time(world, EVERY)
        active = await active_of(world)
        changes += active.change_bytes - (bytes_then if active.id == last else 0)
        seen.add(active.id)
        assert len(seen) == 1 or active.base_bytes + active.change_bytes < 3_000_000
    assert 2 < len(seen) < 20
    assert written(world) - before < 4 * changes


async def test_rows_that_are_needed_all_are_read_once_and_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await started()
    for _ in range(4):
        await world.put({ENGINE + world.random.randbytes(8): world.random.randbytes(30_000) for _ in range(200)})
        await world.settle()
    first, reads = await active_of(world), 0
    read = world.catalog.read

    async def counted(function, *, long: bool = False):  # type: ignore[no-untyped-def]
        nonlocal reads
        reads += long
        return await read(function, long=long)

    monkeypatch.setattr(world.catalog, "read", counted)
    await pass_time(world, HOUR, step=20.0)
    assert 0 < reads < 10
    assert await active_of(world) == first
    seen, reads = reads, 0
    await world.change()
    await pass_time(world, HOUR, step=20.0)
    assert reads == 0, "that little changes nothing"
    await world.put({ENGINE + world.random.randbytes(8): world.random.randbytes(30_000) for _ in range(60)})
    await pass_time(world, HOUR, step=20.0)
    assert 0 < reads <= seen + 1
    assert (await active_of(world)).id == first.id


async def test_what_was_deleted_leaves_the_base(tmp_path: Path) -> None:
    """Deletions take little room, but make much: the base they belong to is known to be large by its rows alone."""
    world = await started()
    keys = [ENGINE + world.random.randbytes(8) for _ in range(300)]
    await world.put({key: world.random.randbytes(30_000) for key in keys})
    await world.settle()
    await world.put(dict.fromkeys(keys[10:]))
    await world.settle()
    await pass_time(world, 60.0)
    assert stored(world) < 1_500_000
    _, restored = await world.restore(tmp_path / "restored")
    assert restored == world.rows


async def test_a_shared_catalog_whose_gateways_take_over_from_each_other(postgres_url: str, tmp_path: Path) -> None:
    catalog = await PostgresCatalog.open(postgres_url)
    try:
        world = await started(catalog=catalog)
        await burst(world)
        first = await active_of(world)
        await pass_time(world, 16.0)
        world.worker = world.new_worker()
        await pass_time(world, 16.0)
        assert (await world.state()).building is None, "the new one has not seen it quiet for long"
        await pass_time(world, 44.0)
        second = await active_of(world)
        assert chains_on(world) == {second.id} != {first.id}
        _, restored = await world.restore(tmp_path / "restored")
        assert restored == world.rows
    finally:
        await catalog.close()


async def test_it_is_done_at_once_when_asked_for() -> None:
    world = await started()
    await burst(world)
    await world.settle()
    first = await active_of(world)
    world.worker.force()
    while await world.worker.turn() is WorkerState.BUSY:
        pass
    assert chains_on(world) == {(await active_of(world)).id} != {first.id}
    await burst(world)
    await world.settle()
    assert stored(world) > 7_000_000, "once, not for ever"


async def test_a_chain_of_the_same_size_is_kept_for_its_time() -> None:
    """It is an earlier state to go back to."""
    world = await started(SnapshotLimits(every=EVERY, retention=400.0))
    await world.put({ENGINE + world.random.randbytes(8): world.random.randbytes(30_000) for _ in range(100)})
    await world.settle()
    world.worker.force()
    while await world.worker.turn() is WorkerState.BUSY:
        pass
    first = await active_of(world)
    await pass_time(world, 150.0)
    await world.put({ENGINE + world.random.randbytes(8): world.random.randbytes(30_000) for _ in range(10)})
    await pass_time(world, 130.0)
    second = await active_of(world)
    assert second.id > first.id
    assert first.id in chains_on(world)
    await pass_time(world, 200.0)
    assert first.id not in chains_on(world)


async def test_a_held_catalog_keeps_what_it_has() -> None:
    world = await started()
    await put_hold(world.catalog, 1, await world.catalog.sequence())
    await world.change()
    await world.settle()  # a new base: the feed began with the hold
    await burst(world)
    first = await active_of(world)
    await pass_time(world, HOUR, step=20.0)
    assert await active_of(world) == first
    await lift_hold(world.catalog)
    await pass_time(world, 60.0)
    assert first.id not in chains_on(world)


async def test_the_former_chain_stays_until_all_of_the_new_one_is_there() -> None:
    world = await started()
    await burst(world)
    first = await active_of(world)
    world.worker.force()
    while not ((await world.state()).building or ChainRow(0, "", "", 0, 0, b"")).to_verify:
        await world.worker.turn()
    while (building := (await world.state()).building) and building.verified < building.to_verify:
        await world.worker.turn()
    backend = world.backends[0]
    assert isinstance(backend, MemoryBackend)
    kept = dict(backend._pieces)
    backend._pieces.clear()  # it was read back, then a node lost it
    await pass_time(world, 60.0)
    assert (await active_of(world)).id > first.id
    assert first.id in chains_on(world)
    backend._pieces.update(kept)
    await pass_time(world, 400.0)
    assert first.id not in chains_on(world)


async def test_nodes_that_lose_what_they_take_cost_no_chain_and_little_work(tmp_path: Path) -> None:
    backends = [FaultyBackend(MemoryBackend(), seed=number) for number in range(6)]
    world = await SnapshotWorld(MemoryCatalog(), backends=backends, limits=LIMITS).open()
    await world.change()
    await world.settle()
    await burst(world)
    first, before = await active_of(world), written(world)
    backends[1].rules.append(FaultRule("put", Fault.LOSE))
    await pass_time(world, 2 * HOUR, step=20.0)
    assert await active_of(world) == first
    assert 0 < written(world) - before < 30 * 100_000, "it is tried about every ten minutes"
    _, restored = await world.restore(tmp_path / "restored", without=(1, 6))
    assert restored == world.rows
    backends[1].rules.clear()
    await pass_time(world, 1000.0)
    assert (await active_of(world)).id > first.id


async def test_chains_of_another_line_are_kept_for_their_time() -> None:
    """This catalog was put back from an image: what it does not know of may be what somebody wants to restore."""
    world = await started()
    await burst(world)
    image = dict(await world.catalog.read(lambda reader: reader.scan(b"\0", b"\xff", limit=10**6)))
    await burst(world)
    old = SnapshotWorld(MemoryCatalog(), backends=world.backends, limits=LIMITS)
    state = STATE_ROW.decode(image[STATE_KEY])
    assert state.active is not None
    assert state.active.id == (await active_of(world)).id
    await old.catalog.load([*image.items()], sequence=await world.catalog.sequence() - 2)
    await old.settle()
    await pass_time(old, 120.0)
    assert (await active_of(old)).id > state.active.id
    assert state.active.id in chains_on(old)


async def test_full_nodes_get_no_base_that_they_have_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await started()
    await burst(world)
    first, names = await active_of(world), names_on(world)
    monkeypatch.setattr(world.placer, "choose", lambda *_, **__: [])
    await pass_time(world, HOUR, step=20.0)
    assert names_on(world) == names
    monkeypatch.undo()
    await pass_time(world, 100.0)
    assert (await active_of(world)).id > first.id
