"""Catalogs that go back in time, and restored ones that somebody tried: the snapshots of the one that serves win."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backends.memory import MemoryBackend
from catalog.backup import backup, restore
from catalog.hold import lift_hold
from catalog.lmdb_engine.catalog import LmdbCatalog
from engine.errors import Unavailable
from engine.snapshots.freshness import Freshness
from engine.snapshots.rows import STATE_KEY, STATE_ROW
from engine.snapshots.worker import SnapshotLimits
from tests.snapshots.world import ROOT, SnapshotWorld, chains_on, keys_of, rows_in

DAY = 86_400.0


async def opened(folder: Path, like: SnapshotWorld) -> SnapshotWorld:
    """A server on the catalog in a folder, with the nodes of another world."""
    catalog = await LmdbCatalog.open(folder)
    world = SnapshotWorld(catalog, backends=like.backends, limits=like.limits, seed=like.random.getrandbits(32))
    world.rows = await rows_in(catalog)
    return world


async def test_the_catalog_from_before_a_restore_can_serve_again(tmp_path: Path) -> None:
    """A restored deployment was tried, made snapshots, and was dropped for the old machine, which was not lost."""
    first = await SnapshotWorld(await LmdbCatalog.open(tmp_path / "first")).open()
    await first.change()
    await first.settle()
    await first.restore(tmp_path / "second")
    await first.catalog.close()
    second = await opened(tmp_path / "second", first)
    await second.change()
    await second.settle()
    await second.catalog.close()
    again = await opened(tmp_path / "first", first)
    await again.change()
    await again.settle()
    told, rows = await again.restore(tmp_path / "third")
    assert rows == again.rows
    assert rows != second.rows
    assert told.facts.lineage == 2
    await again.catalog.close()


async def test_it_is_noticed_while_the_old_one_serves(tmp_path: Path) -> None:
    """The restored one began its snapshots after the old one had looked at the nodes."""
    first = await SnapshotWorld(await LmdbCatalog.open(tmp_path / "first")).open()
    await first.change()
    await first.settle()
    await first.restore(tmp_path / "second")
    second = await opened(tmp_path / "second", first)
    await second.change()
    await second.settle()
    await second.catalog.close()
    await first.change()
    for _ in range(2):
        first.clock.ahead += 301
        await first.settle()
    _, rows = await first.restore(tmp_path / "third")
    assert rows == first.rows
    await first.catalog.close()


async def test_a_restored_backup_outranks_what_was_stored_after_it(tmp_path: Path) -> None:
    world = await SnapshotWorld(await LmdbCatalog.open(tmp_path / "catalog")).open()
    await world.change()
    await world.settle()
    await backup(world.catalog, tmp_path / "backup")
    for _ in range(20):
        await world.change()
        await world.settle()
    await world.catalog.close()
    await restore(tmp_path / "backup", tmp_path / "restored")
    older = await opened(tmp_path / "restored", world)
    await older.change()
    await older.settle()
    _, rows = await older.restore(tmp_path / "again")
    assert rows == older.rows
    await older.catalog.close()


async def test_a_data_folder_that_was_put_back_outranks_what_was_stored_after_it(tmp_path: Path) -> None:
    """As after going back to an image of the disk. The chain of then went on, and is not gone on with."""
    world = await SnapshotWorld(await LmdbCatalog.open(tmp_path / "catalog")).open()
    await world.change()
    await world.settle()
    await world.catalog.close()
    shutil.copytree(tmp_path / "catalog", tmp_path / "image")
    world = await opened(tmp_path / "catalog", world)
    for _ in range(20):
        await world.change()
        await world.settle()
    await world.catalog.close()
    older = await opened(tmp_path / "image", world)
    await older.change()
    await older.settle()
    _, rows = await older.restore(tmp_path / "again")
    assert rows == older.rows
    await older.catalog.close()


async def test_nodes_that_come_up_later_are_looked_at_then(tmp_path: Path) -> None:
    world = await SnapshotWorld(await LmdbCatalog.open(tmp_path / "catalog")).open()
    await world.change()
    await world.settle()
    await world.catalog.close()
    shutil.copytree(tmp_path / "catalog", tmp_path / "image")
    world = await opened(tmp_path / "catalog", world)
    for _ in range(20):
        await world.change()
        await world.settle()
    await world.catalog.close()
    older = await opened(tmp_path / "image", world)
    for node in older.nodes:
        older.placer.set_up(node.id, False)
    await older.change()
    with pytest.raises(Unavailable):
        await older.settle()
    for node in older.nodes:
        older.placer.set_up(node.id, True)
    await older.settle()
    _, rows = await older.restore(tmp_path / "again")
    assert rows == older.rows
    await older.catalog.close()


async def test_until_a_chain_of_its_own_is_whole_there_is_no_snapshot(tmp_path: Path) -> None:
    """A restore would take the other one's: that is what is told."""
    first = await SnapshotWorld(await LmdbCatalog.open(tmp_path / "first")).open()
    await first.change()
    await first.settle()
    await first.restore(tmp_path / "second")
    await first.catalog.close()
    second = await opened(tmp_path / "second", first)
    await second.change()
    await second.settle()
    await second.catalog.close()
    again = await opened(tmp_path / "first", first)
    await again.change()
    await again.worker.turn()
    fresh = await Freshness.look(again.catalog, again.clock)
    assert not fresh.exists
    await again.settle()
    fresh = await Freshness.look(again.catalog, again.clock)
    assert fresh.exists
    await again.catalog.close()


async def test_a_restart_is_no_other_line(tmp_path: Path) -> None:
    world = await SnapshotWorld(await LmdbCatalog.open(tmp_path / "catalog")).open()
    for _ in range(3):
        await world.change()
        await world.settle()
        before = await world.state()
        world.worker = world.new_worker()
    await world.settle()
    assert await world.state() == before
    assert before.lineage == 0
    await world.catalog.close()


async def test_chains_of_before_go_in_time_whatever_their_numbers(tmp_path: Path) -> None:
    """The restored machine's clock is a day behind, and the newest chain on the nodes lost too much to be restored."""
    limits = SnapshotLimits(every=0.0, retention=20.0)
    first = await SnapshotWorld(await LmdbCatalog.open(tmp_path / "first"), limits=limits).open()
    await first.change()
    await first.settle()
    first.root = bytes(range(1, 33))
    await first.settle()
    first.root = ROOT
    await first.change()
    await first.settle()  # another chain under the same key
    newest = (await first.state()).last_chain
    assert len(chains_on(first)) == 2
    keys = keys_of(ROOT)
    for backend in first.backends:
        assert isinstance(backend, MemoryBackend)
        for text in list(backend._pieces):
            name = keys.read_name(text)
            if name is not None and name.chain == newest and name.part == 0:
                del backend._pieces[text]
    told, _ = await first.restore(tmp_path / "second")
    assert told.chain < newest
    await first.catalog.close()
    second = await opened(tmp_path / "second", first)
    second.clock.set_back(DAY)
    await lift_hold(second.catalog)
    for _ in range(6):
        await second.change()
        await second.settle()
        second.clock.ahead += 11
    await second.settle()
    active = (await second.state()).active
    assert active is not None
    assert active.id > newest
    assert newest not in chains_on(second)
    await second.catalog.close()


@pytest.mark.parametrize("count", [1, 2])
async def test_a_restore_of_a_restored_deployment(tmp_path: Path, count: int) -> None:
    world = await SnapshotWorld(await LmdbCatalog.open(tmp_path / "0")).open()
    await world.change()
    await world.settle()
    for number in range(1, count + 1):
        await world.catalog.close()
        await world.restore(tmp_path / str(number))
        world = await opened(tmp_path / str(number), world)
        stored = await world.catalog.read(lambda reader: reader.get(STATE_KEY))
        assert stored is not None
        assert STATE_ROW.decode(stored).lineage == number
        await world.change()
        await world.settle()
    told, rows = await world.restore(tmp_path / "last")
    assert rows == world.rows
    assert told.facts.lineage == count
    await world.catalog.close()
