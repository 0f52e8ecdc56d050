"""Nodes that fail, lie or hang, and a worker that is cut short anywhere: the chain goes on and restores exactly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from backends.decorators import Fault, FaultRule, FaultyBackend
from backends.errors import NoSpace, PermanentError
from backends.memory import MemoryBackend
from catalog.hold import put_hold
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.memory import MemoryCatalog
from core import crashpoints
from core.workers import WorkerState
from engine.errors import Unavailable
from engine.snapshots.freshness import Cover, Freshness
from engine.snapshots.worker import SnapshotLimits
from tests.snapshots.world import ROOT, SnapshotWorld, chains_on, keys_of, names_on


def faulty(rules: Sequence[tuple[int, FaultRule]], seed: int = 1) -> list[FaultyBackend]:
    backends = [FaultyBackend(MemoryBackend(), seed=seed + number) for number in range(6)]
    for node, rule in rules:
        backends[node - 1].rules.append(rule)
    return backends


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.LATE_ERROR, Fault.BREAK, Fault.DELAY])
async def test_a_part_is_whole_whatever_two_nodes_do(tmp_path: Path, fault: Fault) -> None:
    catalog = MemoryCatalog()
    rules = [(node, FaultRule("put", fault, probability=0.5, seconds=0.01)) for node in (2, 5)]
    backends = faulty(rules)
    world = await SnapshotWorld(catalog, backends=backends).open()
    for number in range(16):
        await world.change(30, size=3000 if number % 2 else 10_000)
        await world.settle()
        for node in world.nodes:
            world.placer.set_up(node.id, True)
    assert sum(sum(backend.injected.values()) for backend in backends) > 3
    for number, gone in enumerate(itertools.combinations(range(1, 7), 2)):
        _, rows = await world.restore(tmp_path / f"restored-{number}", without=gone)
        assert rows == world.rows, f"without nodes {gone}"


async def test_too_few_nodes_end_the_turn_and_the_next_goes_on(tmp_path: Path) -> None:
    catalog = MemoryCatalog()
    backends = faulty([])
    world = await SnapshotWorld(catalog, backends=backends).open()
    await world.change()
    await world.settle()
    before = dict(world.rows)
    rule = FaultRule("put", Fault.ERROR, error=PermanentError)
    for backend in backends[:4]:
        backend.rules.append(rule)
    await world.change()
    with pytest.raises(Unavailable):
        await world.settle()
    _, rows = await world.restore(tmp_path / "meanwhile")
    assert rows == before
    fresh = await Freshness.look(catalog, world.clock)
    assert fresh.exists
    assert fresh.lag > 0
    for backend, node in zip(backends, world.nodes, strict=True):
        backend.rules.clear()
        world.placer.set_up(node.id, True)
    await world.settle()
    assert (await Freshness.look(catalog, world.clock)).lag == 0
    _, rows = await world.restore(tmp_path / "afterwards")
    assert rows == world.rows


async def test_a_node_that_lies_is_found_before_the_former_chain_goes(tmp_path: Path) -> None:
    catalog = MemoryCatalog()
    backends = faulty([])
    world = await SnapshotWorld(catalog, backends=backends).open()
    await world.change()
    await world.settle()
    first = (await world.state()).active
    assert first is not None
    backends[2].rules.append(FaultRule("put", Fault.LOSE))
    world.root = bytes(range(1, 33))  # a new base is due
    await world.change()
    for _ in range(20):
        await world.worker.turn()
    state = await world.state()
    assert state.active is not None
    assert state.active.id == first.id, "an unverified chain took over"
    assert state.retired, "what was given up is not deleted"
    backends[2].rules.clear()
    world.clock.ahead += 1000
    await world.settle()
    changed = (await world.state()).active
    assert changed is not None
    assert changed.id > first.id
    _, rows = await world.restore(tmp_path / "restored", root=world.root)
    assert rows == world.rows


async def test_a_parity_shard_that_rotted_is_found_too() -> None:
    """A restore would do without it, but could lose one node less."""
    world = await SnapshotWorld(MemoryCatalog()).open()
    await world.change()
    while (building := (await world.state()).building) is None or not building.time_us:
        await world.worker.turn()
    for backend in world.backends:
        assert isinstance(backend, MemoryBackend)
        for text, piece in backend._pieces.items():
            name = keys_of(ROOT).read_name(text)
            if name is not None and name.index == name.k + 1:
                backend._pieces[text] = piece[:-1] + bytes([piece[-1] ^ 1])
    await world.worker.turn()
    state = await world.state()
    assert state.active is state.building is None
    assert [row.chain for row in state.retired] == [building.id]


@pytest.mark.parametrize("domains", [1, 2, 3, 4])
async def test_fewer_domains_than_losses_are_no_reason_for_no_snapshot(tmp_path: Path, domains: int) -> None:
    """Objects can't survive more there either: a snapshot survives the loss of as many domains as objects do."""
    world = await SnapshotWorld(MemoryCatalog(), domains=domains).open()
    await world.change(500, size=3000)
    if domains == 1:
        with pytest.raises(Unavailable, match="in 1 domains"):
            await world.settle()
        return
    await world.settle()
    await world.change()
    await world.settle()
    for domain in range(domains):
        gone = [number for number in range(1, 7) if number % domains == domain]
        _, rows = await world.restore(tmp_path / str(domain), without=gone)
        assert rows == world.rows


@pytest.fixture
def disarmed() -> Iterator[None]:
    yield
    crashpoints.disarm()


class _Crash(BaseException):
    """Not an Exception: nothing on the way may handle it."""


@pytest.mark.parametrize(
    "point",
    ["snapshot-base", "snapshot-changes", "snapshot-verified", "snapshot-changed-over", "snapshot-retired"],
)
@pytest.mark.usefixtures("disarmed")
async def test_cut_short_anywhere_it_goes_on(tmp_path: Path, point: str) -> None:
    def crash(_: str) -> None:
        raise _Crash

    catalog = await LmdbCatalog.open(tmp_path / "catalog")
    world = await SnapshotWorld(catalog, limits=SnapshotLimits(every=0.0, retention=2.0)).open()
    crashes = 0
    for number in range(6):
        await world.change(200, size=40_000)
        crashpoints.arm(point, crash, nth=1 + number // 4)
        for _ in range(100):
            try:
                if await world.worker.turn() is not WorkerState.BUSY:
                    break
            except _Crash:
                crashes += 1
                world.worker = world.new_worker()
        world.clock.ahead += 1.5
    assert crashes > 0, "the point was never reached"
    crashpoints.disarm()
    await world.change()
    await world.settle()
    _, rows = await world.restore(tmp_path / "restored")
    assert rows == world.rows
    await catalog.close()


async def test_former_chains_go_after_the_retention_and_not_before() -> None:
    catalog = MemoryCatalog()
    world = await SnapshotWorld(catalog, limits=SnapshotLimits(every=0.0, retention=200.0)).open()
    await world.change()
    await world.settle()
    await world.change()
    await world.settle()
    first = (await world.state()).active
    assert first is not None
    world.clock.ahead += 101
    await world.change()
    await world.settle()  # half of the retention has passed: a new base
    second = (await world.state()).active
    assert second is not None
    assert second.id > first.id
    assert chains_on(world) == {first.id, second.id}
    world.clock.ahead += 95
    await world.settle()
    assert first.id in chains_on(world)
    world.clock.ahead += 10
    await world.settle()
    assert first.id not in chains_on(world)
    assert (await world.state()).retired == ()


async def test_a_held_catalog_keeps_what_an_operator_may_go_back_to() -> None:
    catalog = MemoryCatalog()
    world = await SnapshotWorld(catalog, limits=SnapshotLimits(every=0.0, retention=20.0)).open()
    for _ in range(3):
        await world.change()
        await world.settle()
        world.clock.ahead += 11
    await put_hold(catalog, 1, await catalog.sequence())
    kept = chains_on(world)
    world.clock.ahead += 1000
    await world.change()
    await world.settle()
    assert kept <= chains_on(world)


async def test_chains_under_a_root_key_that_was_rotated_away_go_too() -> None:
    catalog = MemoryCatalog()
    world = await SnapshotWorld(catalog, limits=SnapshotLimits(every=0.0, retention=20.0)).open()
    await world.change()
    await world.settle()
    old = keys_of(ROOT).prefix
    assert any(name.startswith(old) for name in names_on(world))
    world.root = bytes(range(1, 33))
    await world.settle()
    world.clock.ahead += 11
    await world.settle()
    assert names_on(world)
    assert not any(name.startswith(old) for name in names_on(world))


async def test_what_nobody_knows_is_deleted_in_time() -> None:
    """As after a crash between a chain's first part and its row, or of a deployment before its restore."""
    catalog = MemoryCatalog()
    world = await SnapshotWorld(catalog, limits=SnapshotLimits(every=0.0, retention=20.0)).open()
    await world.change()
    await world.settle()
    stranger = SnapshotWorld(MemoryCatalog(), backends=world.backends, limits=world.limits)
    stranger.clock.ahead = -3600.0
    await stranger.change()
    await stranger.settle()
    assert len(chains_on(world)) == 2
    for _ in range(8):
        world.clock.ahead += 9
        await world.settle()
    active = (await world.state()).active
    assert active is not None
    assert chains_on(world) == {active.id}


async def test_lost_shards_bring_a_new_base(tmp_path: Path) -> None:
    catalog = MemoryCatalog()
    world = await SnapshotWorld(catalog, limits=SnapshotLimits(every=0.0, retention=86_400.0)).open()
    await world.change(500, size=4000)
    await world.settle()
    first = (await world.state()).active
    assert first is not None
    backend = world.backends[0]
    assert isinstance(backend, MemoryBackend)
    backend._pieces.clear()
    for _ in range(3):
        world.clock.ahead += 301
        await world.settle()
    second = (await world.state()).active
    assert second is not None
    assert second.id > first.id
    _, rows = await world.restore(tmp_path / "restored", without=(3, 4))
    assert rows == world.rows


async def test_a_base_follows_once_changes_outgrow_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.snapshots.worker._GROWTH_BYTES", 200_000)
    catalog = MemoryCatalog()
    world = await SnapshotWorld(catalog).open()
    chains = set()
    for _ in range(30):
        await world.change(10, size=4000, keys=100)
        await world.settle()
        state = await world.state()
        assert state.active is not None
        chains.add(state.active.id)
        assert state.active.change_bytes < 400_000
    assert len(chains) > 2
    _, rows = await world.restore(tmp_path / "restored")
    assert rows == world.rows


async def test_cover_waits_for_a_snapshot_but_not_for_ever_nor_on_full_nodes() -> None:
    catalog = MemoryCatalog()
    full = False
    world = await SnapshotWorld(catalog).open()
    cover = Cover(catalog, world.clock, full=lambda: full, patience=600)
    await world.change()
    now = await catalog.sequence()
    assert not await cover(now)
    await world.settle()
    assert await cover(now)
    await world.change()
    later = await catalog.sequence()
    assert await cover(now)
    assert not await cover(later)
    full = True
    assert await cover(later)
    full = False
    world.clock.ahead += 601
    assert await cover(later)


async def test_full_nodes_are_told_from_nodes_that_are_down() -> None:
    catalog = MemoryCatalog()
    backends = faulty([(node, FaultRule("put", Fault.ERROR, error=NoSpace)) for node in range(1, 7)])
    world = await SnapshotWorld(catalog, backends=backends).open()
    await world.change()
    with pytest.raises(Exception, match="space"):
        await world.settle()
    assert world.worker.writer.lacks_room()
    for node in world.nodes:
        world.placer.set_up(node.id, False)
    assert not world.worker.writer.lacks_room()
