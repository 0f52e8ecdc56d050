"""What the worker stored is what a restore gives, whichever nodes are left."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from backends.interface import PieceSource
from backends.memory import MemoryBackend
from catalog.errors import CatalogError
from catalog.hold import held
from catalog.interface import Catalog
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.memory import MemoryCatalog
from catalog.prefixes import ENGINE
from engine.snapshots.restore import NothingToRestore, restore_folder
from engine.snapshots.worker import SnapshotLimits
from tests.snapshots.world import DEPLOYMENT, ROOT, SnapshotWorld, keys_of, rows_of


@pytest.fixture(params=["memory", "lmdb"])
async def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Catalog]:
    found: Catalog = MemoryCatalog() if request.param == "memory" else await LmdbCatalog.open(tmp_path / "catalog")
    yield found
    await found.close()


async def test_every_point_restores_exactly(catalog: Catalog, tmp_path: Path) -> None:
    world = await SnapshotWorld(catalog).open()
    for number in range(6):
        await world.change(200)
        await world.settle()
        told, rows = await world.restore(tmp_path / f"restored-{number}")
        assert rows == world.rows
        assert told.warnings == []


async def test_any_two_nodes_may_be_gone(catalog: Catalog, tmp_path: Path) -> None:
    world = await SnapshotWorld(catalog).open()
    await world.change(500, size=4000)
    await world.settle()
    await world.change(50)
    await world.settle()
    for number, gone in enumerate(itertools.combinations(range(1, 7), 2)):
        _, rows = await world.restore(tmp_path / f"restored-{number}", without=gone)
        assert rows == world.rows


async def test_changes_while_the_base_is_written_are_in_the_point(catalog: Catalog, tmp_path: Path) -> None:
    world = await SnapshotWorld(catalog).open()
    for _ in range(20):
        await world.change(300, size=60_000, keys=500)
    turns = 0
    while (await world.state()).active is None:
        await world.worker.turn()
        await world.change(30, size=60_000, keys=500)
        turns += 1
    assert turns > 3, "the base was one part: nothing was interleaved"
    await world.settle()
    _, rows = await world.restore(tmp_path / "restored")
    assert rows == world.rows


async def test_nothing_is_written_when_nothing_changed(catalog: Catalog) -> None:
    world = await SnapshotWorld(catalog).open()
    await world.change()
    await world.settle()
    before = await world.state(), await catalog.sequence()
    for _ in range(5):
        await world.settle()
    assert (await world.state(), await catalog.sequence()) == before


async def test_a_restored_catalog_is_held_and_goes_on_behind_the_point(catalog: Catalog, tmp_path: Path) -> None:
    world = await SnapshotWorld(catalog).open()
    await world.change()
    await world.settle()
    await world.restore(tmp_path / "restored")
    restored = await LmdbCatalog.open(tmp_path / "restored")
    hold = await held(restored)
    assert hold is not None
    active = (await world.state()).active
    assert active is not None
    assert hold.backup_us == active.time_us
    assert await restored.sequence() >= active.sequence
    await restored.close()


async def test_a_restored_deployment_makes_snapshots_that_win(tmp_path: Path) -> None:
    first = await LmdbCatalog.open(tmp_path / "first")
    world = await SnapshotWorld(first).open()
    await world.change()
    await world.settle()
    await world.restore(tmp_path / "second")
    await first.close()
    second = await LmdbCatalog.open(tmp_path / "second")
    again = SnapshotWorld(second, backends=world.backends)
    again.rows = dict(world.rows)
    again.clock.ahead = -3600.0  # the new machine's clock is behind
    await again.change()
    await again.settle()
    told, rows = await again.restore(tmp_path / "third")
    assert rows == again.rows
    assert told.facts.lineage == 1
    await second.close()


async def test_a_wrong_root_key_is_told_apart_from_no_snapshot(catalog: Catalog, tmp_path: Path) -> None:
    world = await SnapshotWorld(catalog).open()
    with pytest.raises(NothingToRestore, match="there is no snapshot on these nodes"):
        await world.restore(tmp_path / "restored")
    await world.change()
    await world.settle()
    with pytest.raises(NothingToRestore, match="under another root key"):
        await world.restore(tmp_path / "restored", root=bytes(32))
    assert not (tmp_path / "restored").exists()


async def test_a_target_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    catalog = MemoryCatalog()
    world = await SnapshotWorld(catalog).open()
    await world.settle()
    (tmp_path / "restored").mkdir()
    (tmp_path / "restored" / "something").write_bytes(b"mine")
    with pytest.raises(Exception, match="not empty") as refusal:
        await world.restore(tmp_path / "restored")
    assert not isinstance(refusal.value, CatalogError)


async def test_an_earlier_point_can_be_asked_for(catalog: Catalog, tmp_path: Path) -> None:
    world = await SnapshotWorld(catalog).open()
    states: list[tuple[int, dict[bytes, bytes]]] = []
    for _ in range(4):
        await world.change(50)
        await world.settle()
        active = (await world.state()).active
        assert active is not None
        states.append((active.time_us, dict(world.rows)))
        world.clock.ahead += 5.0
    keys = keys_of(ROOT)
    for number, (time_us, expected) in enumerate(states):
        folder = tmp_path / str(number)
        told = await restore_folder(world.sources(), keys, DEPLOYMENT, folder, latest_us=time_us + 1_000_000)
        assert await rows_of(folder) == expected
        assert told.warnings == []
    with pytest.raises(NothingToRestore, match="none is that old"):
        await restore_folder(world.sources(), keys, DEPLOYMENT, tmp_path / "none", latest_us=1)


class BusyBackend(MemoryBackend):
    """While it stores a piece, others write."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def put(self, name: str, source: PieceSource) -> bytes:
        if self.meanwhile is not None:
            await self.meanwhile()
        return await super().put(name, source)


async def test_a_point_is_reached_where_changes_come_faster_than_they_are_stored(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fifth more is written while what a view shows is stored: were every view as small, none would end."""
    for module in ("capture", "chains"):
        monkeypatch.setattr(f"engine.snapshots.{module}.VIEW_BYTES", 20_000)
    monkeypatch.setattr("engine.snapshots.capture.PART_BYTES", 4_000)
    backends = [BusyBackend() for _ in range(6)]
    world = await SnapshotWorld(catalog, backends=backends).open()
    await world.change()
    await world.settle()
    before = (await world.state()).active
    states: list[dict[bytes, bytes]] = []
    puts = 0

    async def write() -> None:
        nonlocal puts
        puts += 1
        if puts % 3 == 0:  # once a part
            for _ in range(12):
                await world.change(6, size=100, keys=100_000)
                states.append(dict(world.rows))

    for _ in range(300):
        await world.change(10, size=100, keys=100_000)
        states.append(dict(world.rows))
    for backend in backends:
        backend.meanwhile = write
    world.worker.hasten()
    await asyncio.wait_for(world.worker.turn(), 60)
    for backend in backends:
        backend.meanwhile = None
    after = (await world.state()).active
    assert before is not None
    assert after is not None
    assert after.id == before.id
    assert after.changes > before.changes + 10
    _, rows = await world.restore(tmp_path / "restored")
    assert rows in states


async def test_a_chain_takes_over_with_a_point_as_new_as_the_former_ones(tmp_path: Path) -> None:
    world = await SnapshotWorld(MemoryCatalog(), limits=SnapshotLimits(every=0.0, retention=200.0)).open()
    for number in range(10):
        await world.put({ENGINE + b"%06d" % number: world.random.randbytes(1 << 20)})
        await world.settle()
    first = (await world.state()).active
    assert first is not None
    world.clock.ahead += 101  # a new base is due
    turns = 0
    newest = 0
    while (state := await world.state()).active is None or state.active.id == first.id:
        assert state.active is not None
        newest = state.active.sequence
        await world.change()
        await world.worker.turn()
        turns += 1
    assert turns > 4, "it was verified in one go"
    assert state.active.sequence >= newest
    assert state.active.position >= newest
