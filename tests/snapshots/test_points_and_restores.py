"""What the worker stored is what a restore gives, whichever nodes are left."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from catalog.errors import CatalogError
from catalog.hold import held
from catalog.interface import Catalog
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.memory import MemoryCatalog
from engine.snapshots.restore import NothingToRestore, restore_folder
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
