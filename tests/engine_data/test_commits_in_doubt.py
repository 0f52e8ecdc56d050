"""Commits whose outcome is not told: what they name may be in the catalog, so nothing of it may be thrown away."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from catalog.errors import CatalogError, CatalogFailed, CommitUnknown
from catalog.interface import Reader, Transaction
from core.workers import WorkerState
from engine import references
from engine.bodies.interface import StoredBody
from engine.collection import CollectionWorker
from engine.compaction import CompactionWorker
from engine.rebuild import rebuild_segment
from erasure.keys import body_key, new_key
from tests.engine_data.world import Kept, World, chunks, no_outcome

KIB, MIB = 1 << 10, 1 << 20
T = TypeVar("T")


class Doubtful:
    """A catalog that commits and then, once for each of `errors`, tells an error of unknown outcome instead."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.errors: list[CatalogError] = []
        self.unreadable: Exception | None = None
        self.hold: asyncio.Event | None = None  # the next commit waits for it before it begins

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def transact(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        hold, self.hold = self.hold, None
        if hold is not None:
            await hold.wait()
        result: T = await self._inner.transact(function)
        if self.errors:
            raise self.errors.pop(0)
        return result

    async def read(self, function: Callable[[Reader], Awaitable[T]], *, long: bool = False) -> T:
        if self.unreadable is not None:
            raise self.unreadable
        result: T = await self._inner.read(function, long=long)
        return result


@pytest.fixture
async def doubtful(world: World) -> AsyncIterator[tuple[World, Doubtful]]:
    catalog = Doubtful(world.catalog)
    world.bodies.catalog = catalog
    yield world, catalog
    catalog.unreadable = None


async def collect(world: World) -> None:
    worker = CollectionWorker(world.bodies)
    while await worker.turn() is WorkerState.BUSY:
        pass


async def stored(world: World, size: int) -> tuple[StoredBody, Kept]:
    """A body that is on its nodes, and what it takes to commit and read it."""
    key, referrer, data = new_key(), os.urandom(16), os.urandom(size)
    body = await world.bodies.store(chunks(data), content_key=key, storage_class="STANDARD", finish=no_outcome)
    return body, Kept(body.ref, body_key(key, body.id), data, referrer)


def refer(kept: Kept) -> Callable[[Transaction], Awaitable[None]]:
    async def function(txn: Transaction) -> None:
        await references.add(txn, kept.ref.id, kept.referrer)

    return function


async def test_a_failed_sync_of_the_catalog_throws_no_pieces_away(doubtful: tuple[World, Doubtful]) -> None:
    """The catalog's file may hold the commit although its sync failed: the next start would miss the pieces."""
    world, catalog = doubtful
    body, kept = await stored(world, 3 * MIB)
    catalog.errors.append(CatalogFailed("injected"))
    with pytest.raises(CatalogFailed):
        await world.bodies.commit([body], refer(kept))
    await collect(world)
    await world.check(kept)


@pytest.mark.parametrize("hindrance", [CatalogError("gone"), ConnectionError("gone")])
async def test_an_unknown_outcome_that_cannot_be_resolved_throws_no_pieces_away(
    doubtful: tuple[World, Doubtful], hindrance: Exception
) -> None:
    world, catalog = doubtful
    body, kept = await stored(world, 3 * MIB)
    catalog.errors.append(CommitUnknown("injected"))
    catalog.unreadable = hindrance
    with pytest.raises(CommitUnknown):
        await world.bodies.commit([body], refer(kept))
    catalog.unreadable = None
    await collect(world)
    await world.check(kept)


@pytest.mark.parametrize("error", [CommitUnknown("injected"), CatalogFailed("injected")])
async def test_a_pack_whose_birth_is_in_doubt_keeps_its_pieces(tmp_path: Path, error: CatalogError) -> None:
    world = await World(tmp_path).open()
    catalog = Doubtful(world.catalog)
    world.bodies.catalog = catalog  # packers are made of it, later
    body, kept = await stored(world, 20 * KIB)
    catalog.errors.append(error)  # for the pack's row, which is committed first
    await world.bodies.commit([body], refer(kept))
    await collect(world)
    await world.check(kept)
    await world.close()


@pytest.mark.parametrize("error", [CommitUnknown("injected"), CatalogFailed("injected")])
async def test_a_rebuild_in_doubt_keeps_the_new_piece(doubtful: tuple[World, Doubtful], error: CatalogError) -> None:
    world, catalog = doubtful
    kept = await world.keep(os.urandom(3 * MIB))
    ((segment_id, row),) = (await world.segments()).items()
    world.piece_path(row, 1).unlink()
    catalog.errors.append(error)
    with pytest.raises(type(error)):
        await rebuild_segment(world.bodies, segment_id, also=[1])
    await collect(world)
    (row,) = (await world.segments()).values()
    assert world.piece_path(row, 1).exists()
    await world.check(kept)


@pytest.mark.parametrize("error", [CommitUnknown("injected"), CatalogFailed("injected")])
async def test_a_compaction_in_doubt_keeps_the_new_pack(doubtful: tuple[World, Doubtful], error: CatalogError) -> None:
    world, catalog = doubtful
    bodies = [await world.keep(os.urandom(20 * KIB)) for _ in range(3)]
    compaction = CompactionWorker(world.bodies)
    compaction.force()
    catalog.errors.append(error)
    with pytest.raises(type(error)):
        await compaction.turn()
    assert len(world.bodies.trash) == 0
    assert await world.packs() == 4
    compaction = CompactionWorker(world.bodies)
    compaction.force()
    while await compaction.turn() is WorkerState.BUSY:
        pass
    await collect(world)
    for kept in bodies:
        await world.check(kept)


async def test_a_cancelled_body_does_not_take_the_pack_of_others_along(tmp_path: Path) -> None:
    """Two bodies share a pack whose row is late; one's client leaves while both wait for it."""
    world = await World(tmp_path).open()
    catalog = Doubtful(world.catalog)
    world.bodies.catalog = catalog
    (one, first), (two, second) = await stored(world, 20 * KIB), await stored(world, 30 * KIB)
    catalog.hold = hold = asyncio.Event()
    leaving = asyncio.create_task(world.bodies.commit([one], refer(first)))
    staying = asyncio.create_task(world.bodies.commit([two], refer(second)))
    await asyncio.sleep(0.2)  # the pack is on its nodes, its row is not committed
    assert len(world.bodies.packs_in_flight()) == 1
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert leaving.cancelled()
    hold.set()
    async with asyncio.timeout(10):
        await staying
    await world.check(second)
    await world.close()


async def test_a_pack_is_in_flight_until_the_last_of_its_bodies(tmp_path: Path) -> None:
    """The first body's client is gone when its pack is written; compaction must still leave the others' pack alone."""
    world = await World(tmp_path).open()
    catalog = Doubtful(world.catalog)
    world.bodies.catalog = catalog
    (one, first), (two, second) = await stored(world, 20 * KIB), await stored(world, 30 * KIB)
    leaving = asyncio.create_task(world.bodies.commit([one], refer(first)))
    staying = asyncio.create_task(world.bodies.commit([two], refer(second)))
    catalog.hold = hold = asyncio.Event()
    for _ in range(10):  # until the pack is on its way to the nodes, in other threads
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await asyncio.sleep(0.2)  # the pack is on its nodes, its row is not committed
    assert len(world.bodies.packs_in_flight()) == 1
    hold.set()
    await staying
    await world.check(second)
    await world.close()
