"""A draft gives out places before its pack is written: who joins it, when it is settled, what those leave who go."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from backends.errors import PermanentError
from catalog.epochs import Epochs
from catalog.errors import CatalogFull, CommitUnknown
from catalog.interface import Transaction
from core import crashpoints
from core.clock import SystemClock
from core.workers import WorkerState
from engine.bodies import stage
from engine.bodies import store as body_store
from engine.bodies.stage import Stage
from engine.bodies.store import BodySettings, BodyStore
from engine.classes import StorageClass, StorageClasses
from engine.collection import CollectionWorker
from engine.compaction import CompactionWorker
from engine.layout_data import DRAFT, PACK_DEAD, STAGED, prefix_end
from engine.packs import write_pack
from engine.records_data import DRAFT_ROW, DraftState
from engine.settling import SettlingWorker
from tests.engine_data.world import World, chunks, emptied, no_outcome, run

KIB = 1 << 10
SETTINGS = BodySettings(threads=2, stage=stage.LIMIT)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    opened = await World(tmp_path, settings=SETTINGS).open()
    yield opened
    await opened.close()


@pytest.mark.parametrize("gone", [(0,), (9,), (0, 1, 4, 9), tuple(range(10))])
async def test_those_who_are_gone_leave_gaps(world: World, gone: tuple[int, ...]) -> None:
    kept = [await world.keep(os.urandom(10 * KIB + number)) for number in range(10)]
    for number in gone:
        await world.remove(kept[number])
    await run(CollectionWorker(world.bodies))
    assert await world.count(STAGED) == 10 - len(gone)
    await run(SettlingWorker(world.bodies))
    assert world.bodies.stage.waiting == 0
    left = [each for number, each in enumerate(kept) if number not in gone]
    for each in left:
        await world.check(each)
    for _ in range(3):  # one pack among others, merged with them
        left.append(await world.keep(os.urandom(20 * KIB)))
        await run(SettlingWorker(world.bodies))
    await run(CompactionWorker(world.bodies))
    await run(CollectionWorker(world.bodies))
    assert await world.packs() == 1
    for each in left:
        await world.check(each)
    await emptied(world, left)


@pytest.mark.parametrize("born", [False, True])
async def test_removed_while_its_pack_is_written(world: World, monkeypatch: pytest.MonkeyPatch, born: bool) -> None:
    kept = [await world.keep(os.urandom(10 * KIB)) for _ in range(4)]

    async def removing(name: str) -> None:
        if name == ("settling-born" if born else "settling-written"):
            await world.remove(kept[0])
            await run(CollectionWorker(world.bodies))

    clear = SettlingWorker._clear

    async def written(*arguments: object, **named: object) -> object:
        segment = await write_pack(*arguments, **named)  # type: ignore[arg-type]
        await removing("settling-written")
        return segment

    async def cleared(*arguments: object) -> None:
        await removing("settling-born")
        await clear(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("engine.settling.write_pack", written)
    monkeypatch.setattr(SettlingWorker, "_clear", cleared)
    await run(SettlingWorker(world.bodies))
    monkeypatch.undo()
    assert await world.count(PACK_DEAD) == 1
    assert await world.count(STAGED) == 0
    for each in kept[1:]:
        await world.check(each)
    await emptied(world, kept[1:])


@pytest.mark.parametrize("point", ["settling-written", "settling-born"])
async def test_settling_that_breaks_off_goes_on_elsewhere(world: World, point: str) -> None:
    kept = [await world.keep(os.urandom(10 * KIB)) for _ in range(300)]

    def stop(_: str) -> None:
        raise KeyError

    crashpoints.arm(point, stop)
    with pytest.raises(KeyError):
        await run(SettlingWorker(world.bodies))
    for each in kept:
        await world.check(each)
    await world.close()
    await world.open()
    for each in kept[:3]:  # of a pack that has its rows already, or not yet
        await world.remove(each)
    await run(CollectionWorker(world.bodies))
    await run(SettlingWorker(world.bodies))
    assert await world.packs() == 1
    assert await world.count(STAGED) == 0
    for each in kept[3:]:
        await world.check(each)
    await emptied(world, kept[3:])


async def test_a_draft_waits_for_commits_under_way(world: World) -> None:
    kept = await world.keep(os.urandom(10 * KIB))
    slot = world.bodies.stage.enter(5000, "STANDARD")
    assert slot is not None
    await world.bodies.stage.hand_over()
    assert await SettlingWorker(world.bodies).turn() is WorkerState.IDLE
    assert await world.count(STAGED) == 1
    other = await world.keep(os.urandom(10 * KIB))  # goes to the next draft
    asked = asyncio.Event()
    world.bodies.stage.wake = asked.set
    world.bodies.stage.leave(slot)
    assert asked.is_set()
    await world.bodies.stage.turn()
    assert await SettlingWorker(world.bodies).turn() is WorkerState.BUSY
    assert await world.count(STAGED) == 1
    for each in (kept, other):
        await world.check(each)


async def test_what_no_live_process_can_fill_is_settled(world: World) -> None:
    """Another process of this catalog ends without closing its draft."""
    epochs = await Epochs.register(world.catalog, SystemClock(), alone=False)
    other = BodyStore(world.catalog, epochs, world.placer, settings=SETTINGS)
    await other.start()
    mine, world.bodies = world.bodies, other
    kept = await world.keep(os.urandom(10 * KIB))
    world.bodies = mine
    worker = SettlingWorker(mine)
    await mine.stage.hand_over()
    assert await worker.turn() is WorkerState.IDLE
    assert await world.count(STAGED) == 1
    await world.check(kept)
    await mine.epochs.mark_dead(epochs.epoch)
    while await worker.turn() is WorkerState.BUSY:
        pass
    assert await world.count(STAGED) == 0
    assert await world.packs() == 1
    await world.check(kept)
    await other.close()


async def test_who_settles_elsewhere_is_noticed(world: World) -> None:
    stage = world.bodies.stage
    await world.keep(os.urandom(10 * KIB))
    await stage.hand_over()
    world.bodies.stage = Stage(world.catalog, world.epochs, world.placer, world.bodies.classes)  # of another process
    await run(SettlingWorker(world.bodies))
    assert stage.waiting == 10 * KIB + 16
    await stage.turn()
    assert stage.waiting == 0


async def test_a_catalog_that_refuses_is_not_asked_without_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = world.bodies.stage
    await world.keep(os.urandom(10 * KIB))
    asked = 0

    async def refuse(_: object) -> None:
        nonlocal asked
        asked += 1
        raise CatalogFull("full")

    monkeypatch.setattr(world.catalog, "transact", refuse)
    with pytest.raises(CatalogFull):
        await stage.hand_over()
    for _ in range(10):
        await stage.turn()
    assert asked == 1
    monkeypatch.undo()
    monkeypatch.setattr(stage, "_monotonic", lambda: time.monotonic() + 2)
    await stage.turn()
    await run(SettlingWorker(world.bodies))
    assert await world.packs() == 1


async def test_a_full_draft_is_settled_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, asked = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(stage, "FULL", 100 * KIB)
    world.bodies.stage.wake, world.bodies.stage.settle = wanted.set, asked.set
    for _ in range(4):
        await world.keep(os.urandom(20 * KIB))
    assert not wanted.is_set()
    await world.keep(os.urandom(20 * KIB))
    assert wanted.is_set()
    await world.keep(os.urandom(20 * KIB))  # while it is not closed the next draft takes them
    assert world.files() == []
    await world.bodies.stage.turn()
    assert asked.is_set()
    assert await SettlingWorker(world.bodies).turn() is WorkerState.BUSY
    assert await world.packs() == 1
    assert await world.count(STAGED) == 1


async def test_an_old_draft_is_settled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.keep(os.urandom(20 * KIB))
    await world.bodies.stage.turn()
    assert await SettlingWorker(world.bodies).turn() is WorkerState.IDLE
    monkeypatch.setattr(world.bodies.stage, "_monotonic", lambda: time.monotonic() + 1)
    await world.bodies.stage.turn()
    assert await SettlingWorker(world.bodies).turn() is WorkerState.BUSY
    assert await world.packs() == 1


async def test_a_commit_that_fails_leaves_nothing_waiting(world: World) -> None:
    stored = await world.bodies.store(
        chunks(os.urandom(10 * KIB)), content_key=b"k" * 32, storage_class="STANDARD", finish=no_outcome
    )

    async def fail(txn: Transaction) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await world.bodies.commit([stored], fail)
    assert await world.count(STAGED) == 0
    kept = [await world.keep(os.urandom(10 * KIB)) for _ in range(2)]
    await run(SettlingWorker(world.bodies))
    assert world.bodies.stage.waiting == 0
    for each in kept:
        await world.check(each)
    await emptied(world, kept)


async def test_a_draft_that_no_nodes_take_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = StorageClasses({"NARROW": StorageClass.of("NARROW", "2+2"), "WIDE": StorageClass.of("WIDE", "4+2")}, {})
    monkeypatch.setattr(body_store, "StorageClasses", lambda: kinds)
    world = await World(tmp_path, settings=SETTINGS).open()
    kept = [await world.keep(os.urandom(10 * KIB), storage_class=name) for name in ("WIDE", "NARROW")]
    for number in (1, 2):
        world.placer.observe(bytes([number]) * 16, ok=False, seconds=0.0, error=PermanentError("gone"))
    worker = SettlingWorker(world.bodies)
    await run(worker)
    assert await world.count(STAGED) == 1
    assert [row.storage_class for row in (await world.segments()).values()] == ["NARROW"]
    assert "nodes" in worker.report().progress
    for each in kept:
        await world.check(each)
    await world.close()


async def test_one_closes_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker and an operator's turn meet while a commit takes long."""
    stage, transact = world.bodies.stage, world.catalog.transact
    kept = await world.keep(os.urandom(10 * KIB))
    go = asyncio.Event()
    asked = 0

    async def slow(function: Callable[[Transaction], Awaitable[object]]) -> object:
        nonlocal asked
        asked += 1
        await go.wait()
        return await transact(function)

    monkeypatch.setattr(world.catalog, "transact", slow)
    first = asyncio.create_task(stage.hand_over())
    await asyncio.sleep(0)
    monkeypatch.setattr(stage, "_monotonic", lambda: time.monotonic() + 2)
    second = asyncio.create_task(stage.turn())
    await asyncio.sleep(0.01)
    go.set()
    await asyncio.gather(first, second)
    assert asked == 1
    monkeypatch.undo()
    await run(SettlingWorker(world.bodies))
    await world.check(kept)


async def test_what_was_born_is_not_closed_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closing commit that was in doubt went through, and its pack was written: it would be written anew, from what
    still waits of its members."""
    stage, transact = world.bodies.stage, world.catalog.transact
    kept = [await world.keep(os.urandom(10 * KIB)) for _ in range(300)]

    async def in_doubt(function: Callable[[Transaction], Awaitable[object]]) -> None:
        await transact(function)
        raise CommitUnknown("in doubt")

    monkeypatch.setattr(world.catalog, "transact", in_doubt)
    with pytest.raises(CommitUnknown):
        await stage.hand_over()
    monkeypatch.undo()

    def stop(_: str) -> None:
        raise KeyError

    crashpoints.arm("settling-born", stop)
    with pytest.raises(KeyError):
        await SettlingWorker(world.bodies).turn()
    monkeypatch.setattr(stage, "_monotonic", lambda: time.monotonic() + 2)
    await stage.hand_over()
    rows = await world.catalog.read(lambda reader: reader.scan(DRAFT, prefix_end(DRAFT), limit=10))
    assert DraftState.BORN in [DRAFT_ROW.decode(value).state for _, value in rows]
    await run(SettlingWorker(world.bodies))
    for each in kept:
        await world.check(each)


async def test_packs_of_drafts_take_turns_among_nodes_and_folders(world: World) -> None:
    """Both go by the first byte of a pack's id."""
    for _ in range(12):
        await world.keep(os.urandom(10 * KIB))
        await run(SettlingWorker(world.bodies))
    first = {row.pieces[0].node for row in (await world.segments()).values()}
    assert len(first) > 1
    assert len({path.parent.name for path in world.files()}) > 1
