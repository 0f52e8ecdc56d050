"""A catalog restored from an older backup deletes nothing that the one before needs, until it is accepted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from catalog.backup import backup, restore
from catalog.hold import held, lift_hold
from core.workers import WorkerState
from engine.collection import CollectionWorker
from engine.layout_data import QUEUE_PIECE
from tests.engine_data.world import Kept, World

KIB, MIB = 1 << 10, 1 << 20


async def collect(worker: CollectionWorker) -> None:
    while await worker.turn() is WorkerState.BUSY:
        pass


async def restored(folder: Path) -> tuple[World, list[Kept], list[Kept]]:
    """A world on a restored catalog, with what was stored before and after the backup in one epoch, and after it in
    another. The catalog before the restore lies beside."""
    world = await World(folder).open()
    before = [await world.keep(os.urandom(size)) for size in (20 * KIB, 3 * MIB)]
    await backup(world.catalog, folder / "backup")
    after = [await world.keep(os.urandom(size)) for size in (20 * KIB, 3 * MIB)]
    await world.close()
    world = await World(folder).open()
    after.append(await world.keep(os.urandom(2 * MIB)))
    await world.close()
    (folder / "catalog").rename(folder / "catalog.before")
    await restore(folder / "backup", folder / "catalog")
    return await World(folder).open(), before, after


@pytest.mark.parametrize("prepare", [CollectionWorker.force, lambda _: None], ids=["forced", "unforced"])
async def test_the_catalog_before_a_restore_stays_whole(
    tmp_path: Path, prepare: Callable[[CollectionWorker], None]
) -> None:
    world, before, after = await restored(tmp_path)
    worker = CollectionWorker(world.bodies)
    await world.remove(before[1])  # shared with the catalog before
    prepare(worker)
    await collect(worker)
    assert await world.count(QUEUE_PIECE) == 6
    assert "held" in worker.report().progress
    await world.close()
    shutil.rmtree(tmp_path / "catalog")
    (tmp_path / "catalog.before").rename(tmp_path / "catalog")
    world = await World(tmp_path).open()
    await collect(CollectionWorker(world.bodies))
    for each in (*before, *after):
        await world.check(each)
    await world.close()


async def test_an_accepted_restore_is_collected(tmp_path: Path) -> None:
    world, before, _ = await restored(tmp_path)
    worker = CollectionWorker(world.bodies)
    await world.remove(before[1])
    await collect(worker)
    assert len(world.files()) == 30
    assert await lift_hold(world.catalog)
    assert not await lift_hold(world.catalog)
    assert await held(world.catalog) is None
    worker.force()
    await collect(worker)
    assert len(world.files()) == 6
    assert "held" not in worker.report().progress
    assert await world.epochs.dead() == []
    await world.check(before[0])
    await world.close()
