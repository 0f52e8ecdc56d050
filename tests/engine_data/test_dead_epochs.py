"""What processes left on the nodes that died more than once."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.disk import DiskBackend
from backends.interface import Entry
from core.workers import WorkerState
from engine.collection import CollectionWorker
from erasure.keys import new_key
from tests.engine_data.world import World, chunks, no_outcome

MIB = 1 << 20


async def collect(world: World) -> None:
    worker = CollectionWorker(world.bodies)
    while await worker.turn() is WorkerState.BUSY:
        pass


async def test_pieces_of_many_dead_epochs_are_looked_for_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that crashes again and again leaves epochs by the hundred: each by itself would list every node."""
    world = await World(tmp_path).open()
    kept = await world.keep(os.urandom(2 * MIB))
    for _ in range(4):
        await world.bodies.store(
            chunks(os.urandom(2 * MIB)), content_key=new_key(), storage_class="STANDARD", finish=no_outcome
        )
        await world.close()
        await world.open()
    assert len(await world.epochs.dead()) >= 4
    listed: list[DiskBackend] = []
    list_pieces = DiskBackend.list

    def count(self: DiskBackend, prefix: str = "") -> AsyncIterator[Entry]:
        listed.append(self)
        return list_pieces(self, prefix)

    monkeypatch.setattr(DiskBackend, "list", count)
    await collect(world)
    assert len(listed) == len(set(listed)) == 6
    assert len(world.files()) == 6
    await world.check(kept)
    assert await world.epochs.dead() == []
    await world.close()


async def test_without_any_node_a_dead_epoch_is_forgotten(tmp_path: Path) -> None:
    world = await World(tmp_path).open()
    await world.close()
    await world.open()
    assert await world.epochs.dead()
    for node in world.placer.nodes():
        world.placer.remove(node.id)
    await collect(world)
    assert await world.epochs.dead() == []
    await world.close()
