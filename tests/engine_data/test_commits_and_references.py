"""Commits of several bodies, cancelled commits, references under concurrency."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from catalog.interface import Transaction
from catalog.memory import MemoryCatalog
from core import crashpoints
from core.workers import WorkerState
from engine import references
from engine.bodies.interface import StoredBody
from engine.classes import UnknownStorageClass
from engine.collection import CollectionWorker
from engine.compaction import CompactionWorker
from engine.errors import Unavailable
from engine.layout_data import BODY, PACK
from engine.placement import LocalPlacer
from erasure.keys import body_key, new_key
from tests.engine_data.world import World, chunks, no_outcome

KIB, MIB = 1 << 10, 1 << 20


async def store(world: World, data: bytes, key: bytes) -> StoredBody:
    return await world.bodies.store(chunks(data), content_key=key, storage_class="STANDARD", finish=no_outcome)


async def nothing(txn: Transaction) -> None:
    return None


async def test_one_commit_of_bodies_of_all_kinds(world: World) -> None:
    key = new_key()
    datas = [os.urandom(size) for size in (10, 20 * KIB, 30 * KIB, 40 * KIB, 2 * MIB)]
    stored = [await store(world, data, key) for data in datas]
    async with asyncio.timeout(10):
        await world.bodies.commit(stored, nothing)
    assert await world.packs() == 1
    for body, data in zip(stored, datas, strict=True):
        got = b"".join([bytes(v) async for v in world.bodies.read(body.ref, body_key(key, body.id), 0, len(data))])
        assert got == data


async def test_cancelled_commits_do_not_stop_the_packer(world: World) -> None:
    """Cancel commits at every step of the loop; later ones still go through, and nothing half-committed remains."""
    for steps in range(0, 40, 3):
        body = await store(world, os.urandom(10 * KIB), new_key())
        task = asyncio.create_task(world.bodies.commit([body], nothing))
        for _ in range(steps):
            await asyncio.sleep(0.0002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(10):
        kept = await world.keep(os.urandom(10 * KIB))
    await world.check(kept)
    assert world.bodies.packs_in_flight() == set()


async def test_the_pack_row_comes_first_or_nothing_does(world: World) -> None:
    """When the pack's own row can't be committed, no body of it can."""
    await world.epochs.mark_dead(world.epochs.epoch)
    body = await store(world, os.urandom(10 * KIB), new_key())
    with pytest.raises(Unavailable):
        await world.bodies.commit([body], nothing)
    assert await world.count(BODY) == await world.count(PACK) == 0


async def test_failed_digest_and_finish_refuse(world: World) -> None:
    class Bad:
        def update(self, data: object, /) -> None:
            raise ValueError("wrong checksum state")

    def refuse(length: int) -> None:
        raise ValueError("mismatch")

    for size in (10, 300 * KIB, 3 * MIB):
        with pytest.raises(ValueError, match="wrong checksum state"):
            await world.bodies.store(
                chunks(os.urandom(size)),
                content_key=new_key(),
                storage_class="STANDARD",
                digests=(Bad(),),
                finish=no_outcome,
            )
        with pytest.raises(ValueError, match="mismatch"):
            await world.bodies.store(
                chunks(os.urandom(size)),
                content_key=new_key(),
                storage_class="STANDARD",
                finish=refuse,  # type: ignore[arg-type]
            )
    with pytest.raises(UnknownStorageClass):
        await world.bodies.store(chunks(b"x"), content_key=new_key(), storage_class="NO_SUCH_CLASS", finish=no_outcome)
    collector = CollectionWorker(world.bodies)
    while await collector.turn() is WorkerState.BUSY:
        pass
    assert world.files() == []


async def test_compaction_leaves_packs_in_flight_alone(world: World) -> None:
    """A pack whose bodies are about to be committed looks all dead; compaction must not retire it."""
    reached = asyncio.Event()
    worker = CompactionWorker(world.bodies)
    body = await store(world, os.urandom(10 * KIB), new_key())

    async def compact() -> None:
        await reached.wait()
        worker.force()
        while await worker.turn() is WorkerState.BUSY:
            pass

    crashpoints.arm("before-commit", lambda _: reached.set())
    await asyncio.gather(compact(), world.bodies.commit([body], nothing))
    assert await world.packs() == 1


@pytest.mark.parametrize("seed", range(20))
async def test_last_remove_and_add_never_both_win(seed: int) -> None:
    """Removers of all referrers against an adder, interleaved at every step: either the add sees the target gone, or
    nobody was told that it was the last."""
    chance = random.Random(seed)

    async def step() -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)

    catalog = MemoryCatalog(on_step=step)
    target, holders = b"t" * 16, [bytes([65 + i]) * 16 for i in range(3)]

    async def begin(txn: Transaction) -> None:
        references.create(txn, target, holders[0])
        for holder in holders[1:]:
            await references.add(txn, target, holder)

    await catalog.transact(begin)

    async def remove(holder: bytes) -> bool:
        await step()
        return await catalog.transact(lambda txn: references.remove(txn, target, holder))

    async def add() -> bool:
        await step()
        try:
            await catalog.transact(lambda txn: references.add(txn, target, b"n" * 16))
        except references.TargetGone:
            return False
        return True

    added, *lasts = await asyncio.gather(add(), *(remove(holder) for holder in holders))
    assert sum(lasts) == (0 if added else 1)
    assert await catalog.read(lambda reader: references.is_alive(reader, target)) == added
    assert await catalog.read(lambda reader: references.referrers(reader, target)) == ([b"n" * 16] if added else [])


async def test_placer_spreads_over_domains(world: World) -> None:
    nodes = world.placer.nodes()
    halves = [type(node)(node.id, node.name, f"half-{number % 2}", node.backend) for number, node in enumerate(nodes)]
    placer = LocalPlacer(halves)
    for count in (2, 4, 6):
        chosen = placer.choose(count, size=1)
        assert sum(node.domain == "half-0" for node in chosen) == count // 2
    placer.set_up(nodes[0].id, False)
    assert nodes[0].id not in {node.id for node in placer.choose(6, size=1)}
    assert len(placer.choose(6, size=1, exclude=[nodes[1].id])) == 4
