"""Pieces go once a snapshot shows that nothing needs them: all that it shows, however many, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from catalog.interface import Transaction
from core.workers import WorkerState
from engine.collection import CollectionWorker
from engine.layout_data import QUEUE_PIECE
from tests.engine_data.world import World

NODES = [bytes([number]) * 16 for number in (1, 2)]
MANY = 2000  # for each node: several turns' work


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = await World(tmp_path).open()
    yield made
    await made.close()


async def queue(world: World, epoch: int, count: int) -> None:
    async def put(txn: Transaction) -> None:
        for node in NODES:
            for number in range(count):
                txn.put(QUEUE_PIECE + node + f"{epoch:016x}-{number:032x}".encode(), b"")

    await world.catalog.transact(put)


async def run(collector: CollectionWorker) -> None:
    while await collector.turn() is WorkerState.BUSY:
        pass


async def test_one_snapshot_lets_go_all_that_it_shows(world: World) -> None:
    newest = 0

    async def covers(sequence: int) -> bool:
        return sequence <= newest

    await queue(world, 1, MANY)
    collector = CollectionWorker(world.bodies, covers=covers)
    await run(collector)
    assert await world.count(QUEUE_PIECE) == MANY * len(NODES)
    newest = await world.catalog.sequence()
    await queue(world, 2, 10)
    await run(collector)
    assert await world.count(QUEUE_PIECE) == 10 * len(NODES), "what came after the snapshot waits for the next"
    newest = await world.catalog.sequence()
    await run(collector)
    assert await world.count(QUEUE_PIECE) == 0
