"""Pieces whose epoch the catalog does not know, as after it was restored from an older backup."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from core.workers import WorkerState
from engine.collection import CollectionWorker
from tests.engine_data.world import World

KIB, MIB = 1 << 10, 1 << 20


async def collect(world: World, *, force: bool) -> None:
    worker = CollectionWorker(world.bodies)
    if force:
        worker.force()
    while await worker.turn() is WorkerState.BUSY:
        pass


async def test_what_was_written_after_a_backup_is_found_by_a_forced_collection(tmp_path: Path) -> None:
    world = await World(tmp_path).open()
    kept = [await world.keep(os.urandom(size)) for size in (20 * KIB, 3 * MIB)]
    await world.close()
    shutil.copytree(tmp_path / "catalog", tmp_path / "backup")
    world = await World(tmp_path).open()
    await world.keep(os.urandom(3 * MIB))  # of an epoch that the backup has never heard of
    await world.close()
    shutil.rmtree(tmp_path / "catalog")
    (tmp_path / "backup").rename(tmp_path / "catalog")
    world = await World(tmp_path).open()
    newest = await world.keep(os.urandom(2 * MIB))
    await collect(world, force=False)
    assert len(world.files()) == 24
    await collect(world, force=True)
    assert len(world.files()) == 18
    assert await world.epochs.dead() == []
    for each in (*kept, newest):
        await world.check(each)
    await world.close()
