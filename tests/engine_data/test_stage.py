"""Small bodies are acknowledged from the catalog and moved into packs afterwards; readers never see a difference."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.decorators.faults import Fault, FaultRule, FaultyBackend
from backends.errors import PermanentError
from backends.interface import Backend
from engine.bodies import stage
from engine.bodies import store as body_store
from engine.bodies.store import BodySettings
from engine.classes import StorageClass, StorageClasses
from engine.collection import CollectionWorker
from engine.errors import Unavailable
from engine.layout_data import BODY, PACK_DEAD, QUEUE_BODY, STAGED
from engine.settling import SettlingWorker
from tests.engine_data.world import World, run

KIB = 1 << 10
SETTINGS = BodySettings(threads=2, stage=stage.LIMIT)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    opened = await World(tmp_path, settings=SETTINGS).open()
    yield opened
    await opened.close()


async def test_acknowledged_without_nodes_then_packed(world: World) -> None:
    sizes = (4 * KIB + 1, 10 * KIB, 33_333, 64 * KIB)
    kept = [await world.keep(os.urandom(size)) for size in sizes]
    assert world.files() == []
    assert await world.count(STAGED) == len(sizes)
    assert world.bodies.counters.bodies_staged == len(sizes)
    for each in kept:
        await world.check(each)
    await run(SettlingWorker(world.bodies))
    assert await world.count(STAGED) == 0
    assert await world.packs() == 1
    assert len(world.files()) == 6
    assert world.bodies.stage.waiting == 0
    assert world.bodies.counters.bodies_settled == len(sizes)
    for each in kept:
        await world.check(each)
        assert await world.read(each, 100, 200) == each.data[100:300]


@pytest.mark.parametrize("size", [100, 4 * KIB, 64 * KIB + 1, 1 << 20])
async def test_other_sizes_are_not_staged(world: World, size: int) -> None:
    await world.check(await world.keep(os.urandom(size)))
    assert await world.count(STAGED) == 0


async def test_the_settled_survive_two_nodes(world: World) -> None:
    kept = [await world.keep(os.urandom(10 * KIB)) for _ in range(20)]
    await run(SettlingWorker(world.bodies))
    await world.close()
    for number in (2, 5):
        for path in (world.folder / "nodes" / str(number) / "pieces").rglob("*-*"):
            path.unlink()
    await world.open()
    for each in kept:
        await world.check(each)


async def test_a_process_that_ends_leaves_its_stage_to_the_next(world: World) -> None:
    kept = [await world.keep(os.urandom(10 * KIB)) for _ in range(300)]
    await world.close()
    await world.open()
    await run(SettlingWorker(world.bodies))
    assert await world.count(STAGED) == 0
    assert world.bodies.stage.waiting == 0
    for each in kept:
        await world.check(each)


async def test_the_dead_come_along_until_they_are_collected(world: World) -> None:
    """Somebody may be reading them."""
    kept = [await world.keep(os.urandom(10 * KIB)) for _ in range(10)]
    for each in kept[:5]:
        await world.remove(each)
    await run(SettlingWorker(world.bodies))
    assert world.bodies.counters.bodies_settled == 10
    for each in kept:
        await world.check(each)
    await run(CollectionWorker(world.bodies))
    assert [await world.count(prefix) for prefix in (STAGED, QUEUE_BODY, BODY, PACK_DEAD)] == [0, 0, 5, 5]
    assert world.bodies.stage.waiting == 0
    for each in kept[5:]:
        await world.check(each)


async def test_collected_before_it_was_moved(world: World) -> None:
    await world.remove(await world.keep(os.urandom(10 * KIB)))
    await run(CollectionWorker(world.bodies))
    assert await world.count(BODY) == 0
    await run(SettlingWorker(world.bodies))
    assert await world.count(STAGED) == 0
    assert world.bodies.stage.waiting == 0
    assert world.files() == []


async def test_a_reader_goes_on_while_its_body_moves(world: World) -> None:
    kept = await world.keep(os.urandom(50 * KIB))
    with world.bodies.pin():
        stream = world.bodies.read(kept.ref, kept.key, 0, len(kept.data))
        first = bytes(await anext(aiter(stream)))
        await run(SettlingWorker(world.bodies))
        rest = b"".join([bytes(view) async for view in stream])
    assert first + rest == kept.data


async def test_a_full_stage_lets_bodies_go_the_direct_way(tmp_path: Path) -> None:
    settings = BodySettings(threads=2, stage=50 * KIB)
    world = await World(tmp_path, settings=settings).open()
    kept = [await world.keep(os.urandom(20 * KIB)) for _ in range(5)]
    assert await world.count(STAGED) == 2
    assert await world.packs() == 3
    await run(SettlingWorker(world.bodies))
    kept.append(await world.keep(os.urandom(20 * KIB)))
    assert await world.count(STAGED) == 1
    for each in kept:
        await world.check(each)
    await world.close()


async def test_refused_like_any_other_while_too_few_nodes_are_up(world: World) -> None:
    """What nodes would refuse is refused before it is acknowledged."""
    for number in range(1, 5):
        world.placer.observe(bytes([number]) * 16, ok=False, seconds=0.0, error=PermanentError("gone"))
    with pytest.raises(Unavailable):
        await world.keep(os.urandom(10 * KIB))
    assert await world.count(STAGED) == 0
    assert world.bodies.stage.waiting == 0


async def test_nodes_that_fail_later_leave_it_staged(tmp_path: Path) -> None:
    failing: list[FaultyBackend] = []

    def wrap(backend: Backend) -> Backend:
        failing.append(FaultyBackend(backend))
        return failing[-1]

    world = await World(tmp_path, settings=SETTINGS, wrap=dict.fromkeys(range(6), wrap)).open()
    kept = await world.keep(os.urandom(10 * KIB))
    for backend in failing:
        backend.rules.append(FaultRule("put", Fault.ERROR))
    worker = SettlingWorker(world.bodies)
    await run(worker)
    assert "pieces can be written" in worker.report().progress or "nodes" in worker.report().progress
    assert await world.count(STAGED) == 1
    await world.check(kept)
    await world.close()


async def test_groups_of_each_storage_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = ("STANDARD", "WIDE")
    kinds = StorageClasses({name: StorageClass.of(name, ("4+2",)) for name in classes}, {})
    monkeypatch.setattr(body_store, "StorageClasses", lambda: kinds)
    world = await World(tmp_path, settings=SETTINGS).open()
    kept = [await world.keep(os.urandom(10 * KIB), storage_class=classes[number % 2]) for number in range(10)]
    await run(SettlingWorker(world.bodies))
    assert await world.count(STAGED) == 0
    rows = await world.segments()
    assert sorted(row.storage_class for row in rows.values()) == sorted(classes)
    for each in kept:
        await world.check(each)
    await world.close()
