"""What was deleted is out of all snapshots once the retention is over, whoever made them and whatever clocks did."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.memory import MemoryCatalog
from catalog.prefixes import ENGINE
from engine.snapshots.restore import find_point
from engine.snapshots.survey import fetch
from engine.snapshots.worker import SnapshotLimits
from tests.snapshots.world import DEPLOYMENT, ROOT, SnapshotWorld, chains_on, keys_of, names_on

RETENTION = 200.0
LIMITS = SnapshotLimits(every=0.0, retention=RETENTION)
DAY = 86_400.0


async def rows_on(world: SnapshotWorld) -> set[bytes]:
    """Keys and values that any part of the newest point's chain holds, the overwritten and deleted ones too."""
    keys = keys_of(world.root)
    _, step = await find_point(world.sources(), keys, DEPLOYMENT)
    found: set[bytes] = set()
    for attempt in step.path():
        content = await fetch(keys, DEPLOYMENT, attempt, [])
        found |= {part for row in content.puts for part in row}
    return found


async def test_what_was_deleted_while_the_base_was_written_goes_in_time() -> None:
    """Nothing changes afterwards: the deletion itself must be reason enough for a new base."""
    world = await SnapshotWorld(MemoryCatalog(), limits=LIMITS).open()
    secret = ENGINE + b"000000"
    await world.put({secret: b"shred me"})
    await world.worker.turn()  # the base, with the row
    state = await world.state()
    assert state.building is not None
    assert state.building.based
    await world.put({secret: None})
    await world.settle()
    assert b"shred me" in await rows_on(world)
    world.clock.ahead += RETENTION / 2 + 1
    await world.settle()
    assert b"shred me" not in await rows_on(world)
    world.clock.ahead += RETENTION / 2 + 1
    await world.settle()
    active = (await world.state()).active
    assert active is not None
    assert chains_on(world) == {active.id}


async def test_a_chain_that_nothing_changed_is_left_alone_for_long_but_not_for_ever() -> None:
    """So that what rots is noticed: a new base is read back before it takes over."""
    world = await SnapshotWorld(MemoryCatalog(), limits=LIMITS).open()
    await world.change()
    await world.settle()
    first = (await world.state()).active
    assert first is not None
    world.clock.ahead += DAY
    await world.settle()
    assert (await world.state()).active == first
    world.clock.ahead += 7 * DAY
    await world.settle()
    second = (await world.state()).active
    assert second is not None
    assert second.id > first.id


async def test_clocks_that_are_set_back_prolong_nothing() -> None:
    world = await SnapshotWorld(MemoryCatalog(), limits=LIMITS).open()
    world.clock.ahead = 365 * DAY  # it was a year ahead…
    for _ in range(3):
        await world.change()
        await world.settle()
        world.clock.ahead += RETENTION / 2 + 1
    assert (await world.state()).retired
    world.clock.set_back(365 * DAY)  # …and somebody noticed
    await world.change()
    await world.settle()
    now = world.clock.now_us()
    state = await world.state()
    assert state.active is not None
    assert state.active.began_us <= now
    assert all(row.since_us <= now for row in state.retired)
    world.clock.ahead += RETENTION / 2 + 1
    await world.settle()
    active = (await world.state()).active
    assert active is not None
    world.clock.ahead += 1
    await world.settle()
    assert len(chains_on(world)) <= 2  # the active one, and the one that it has just replaced


async def test_snapshots_under_root_keys_that_this_catalog_never_had_go_too() -> None:
    """As after a restore with the key from before a rotation: those after it were made under the later one."""
    world = await SnapshotWorld(MemoryCatalog(), limits=LIMITS).open()
    later = SnapshotWorld(MemoryCatalog(), backends=world.backends, limits=LIMITS)
    later.root = bytes(range(1, 33))
    await later.change()
    await later.settle()
    await world.change()
    await world.settle()
    foreign = keys_of(later.root).prefix
    assert any(name.startswith(foreign) for name in names_on(world))
    world.clock.ahead += 301  # the next look
    await world.settle()
    assert any(name.startswith(foreign) for name in names_on(world))
    world.clock.ahead += RETENTION / 2 + 1
    await world.settle()
    assert not any(name.startswith(foreign) for name in names_on(world))
    assert any(name.startswith(keys_of(ROOT).prefix) for name in names_on(world))


async def test_former_chains_take_no_more_room_than_the_one_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under load a base follows the other: all of them for half of the retention would be many times the catalog."""
    monkeypatch.setattr("engine.snapshots.worker._GROWTH_BYTES", 100_000)
    monkeypatch.setattr("engine.snapshots.retention._FORMER_BYTES", 100_000)
    world = await SnapshotWorld(MemoryCatalog(), limits=LIMITS).open()
    chains = set()
    for _ in range(40):
        await world.change(40, size=4000, keys=100)
        await world.settle()
        state = await world.state()
        assert state.active is not None
        chains.add(state.active.id)
        sizes = [row.size for row in state.retired]
        active = state.active.base_bytes + state.active.change_bytes
        assert sum(sizes) <= max(active, 100_000) + max(sizes, default=0)
        assert len(chains) < 2 or sizes, "the last one is kept"
        assert chains_on(world) == {state.active.id} | {row.chain for row in state.retired}
    assert len(chains) > 10


async def test_former_chains_go_although_a_next_one_is_always_under_way() -> None:
    world = await SnapshotWorld(MemoryCatalog(), limits=LIMITS).open()
    seen: set[int] = set()
    for _ in range(60):
        await world.change()
        await world.worker.turn()
        if (await world.state()).building is not None:
            world.clock.ahead += RETENTION / 4 + 1  # by its end it is so old that the next one is due
        seen |= chains_on(world)
    assert len(seen) > 4
    assert min(seen) not in chains_on(world)


async def test_rows_of_a_megabyte_each_fill_parts_that_can_be_read(tmp_path: Path) -> None:
    """Most rows have some hundred bytes, and none more than 1 MiB: a part ends by its bytes, not by its rows."""
    world = await SnapshotWorld(MemoryCatalog()).open()
    for number in range(70):
        await world.put({ENGINE + b"%06d" % number: world.random.randbytes((1 << 20) - 50)})
    await world.settle()
    state = await world.state()
    assert state.active is not None, "no chain can be read back"
    _, rows = await world.restore(tmp_path / "base")
    assert rows == world.rows
    await world.put({ENGINE + b"%06d" % number: world.random.randbytes((1 << 20) - 50) for number in range(70)})
    await world.settle()
    _, rows = await world.restore(tmp_path / "changes")
    assert rows == world.rows
