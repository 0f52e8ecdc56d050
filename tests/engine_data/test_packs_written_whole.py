"""Small packs go to their nodes whole: which jobs and commits that takes, and what hanging or failing costs."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from backends.decorators import Fault, FaultRule, FaultyBackend
from backends.decorators.wrapper import BackendWrapper
from backends.disk import syncs, together
from backends.interface import PieceSource, WholePieces
from backends.memory import MemoryBackend
from catalog.fencing import FencedCatalog, fenced_by
from catalog.leases import Leases
from core.clock import SystemClock
from engine.bodies.store import BodySettings, BodyStore
from engine.classes import StorageClass
from engine.errors import StorageFull, Unavailable
from engine.placement import LocalPlacer
from engine.ports import Node
from engine.segments.write import WriteLimits, choose_target
from tests.engine_data.world import World

KIB = 1 << 10
STANDARD = StorageClass.of("STANDARD", ("4+2", "2+2", "1+2"))


class Streams(BackendWrapper):
    """A node that takes pieces as streams alone, and counts them."""

    puts = 0

    async def put(self, name: str, source: PieceSource) -> bytes:
        self.puts += 1
        return await self.inner.put(name, source)


async def test_one_commit_of_the_catalog_brings_a_pack_and_its_bodies(world: World) -> None:
    before = world.catalog.known_sequence
    kept = await asyncio.gather(*(world.keep(os.urandom(10 * KIB)) for _ in range(16)))
    assert world.bodies.counters.packs_written == 1
    assert world.catalog.known_sequence - before == 1
    for one in kept:
        await world.check(one)


async def test_nodes_that_take_no_whole_pieces_get_streams(tmp_path: Path) -> None:
    streams = []

    def wrap(backend: object) -> Streams:
        assert isinstance(backend, WholePieces)
        streams.append(Streams(backend))  # type: ignore[arg-type]
        return streams[-1]

    world = await World(tmp_path, wrap={1: wrap, 4: wrap}).open()
    kept = await world.keep(os.urandom(20 * KIB))
    assert [node.puts for node in streams] == [1, 1]
    assert len(world.files()) == 6
    await world.check(kept)
    large = await world.keep(os.urandom(800 * KIB))  # a pack of more than is given at once
    assert [node.puts for node in streams] == [2, 2]
    await world.check(large)
    await world.close()


async def test_one_node_of_a_whole_pack_fails(tmp_path: Path) -> None:
    rules: list[FaultRule] = [FaultRule("put", Fault.ERROR, times=1)]
    world = await World(tmp_path, wrap={3: lambda backend: FaultyBackend(backend, rules=rules)}).open()
    kept = await world.keep(os.urandom(20 * KIB))
    assert world.bodies.counters.pieces_failed == 1
    assert world.bodies.counters.segments_short == 1
    await world.check(kept)
    await world.close()


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[World]:
    limits = WriteLimits(slow=0.1, stuck=0.3)
    world = await World(tmp_path, settings=BodySettings(threads=2, limits=limits)).open()
    yield world
    await world.close()


async def test_a_device_that_hangs_holds_no_pack_up_for_ever(impatient: World, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def hanging(descriptors: Sequence[int], *, data_only: bool) -> list[OSError | None]:
        go.wait(20)
        return syncs.sync_all(descriptors, data_only=data_only)

    with monkeypatch.context() as patch:
        patch.setattr(together, "sync_all", hanging)
        async with asyncio.timeout(10):
            with pytest.raises(Unavailable):
                await impatient.keep(os.urandom(20 * KIB))
        go.set()
    for backend in impatient.backends:
        assert [entry async for entry in backend.list()] == []  # which waits for what is being undone
    assert impatient.files() == []


async def test_a_pack_stands_under_nobody_elses_lease(world: World) -> None:
    """The task that writes packs is started by whoever comes first; it serves the others after that one's lease."""
    fenced = FencedCatalog(world.catalog)
    bodies = BodyStore(fenced, world.epochs, world.placer, settings=world.settings)
    whole, world.bodies = world.bodies, bodies
    try:
        lost = await Leases(world.catalog, SystemClock(), holder=b"1").acquire(b"job", 60)
        assert lost is not None
        with fenced_by(lost):
            first = asyncio.create_task(world.keep(os.urandom(10 * KIB)))
            while not bodies.counters.bodies_packed:  # noqa: ASYNC110 - the store is watched, not asked
                await asyncio.sleep(0)
        await lost.release()
        outcome, *others = await asyncio.gather(
            first, *(world.keep(os.urandom(10 * KIB)) for _ in range(8)), return_exceptions=True
        )
        assert isinstance(outcome, Exception)  # its own commit is fenced
        assert [other for other in others if isinstance(other, BaseException)] == []
    finally:
        await bodies.close()
        world.bodies = whole


def placer(*domains: str, free: int = 1 << 30) -> LocalPlacer:
    nodes = [Node(bytes([n]) * 16, str(n), domain, MemoryBackend(capacity=free)) for n, domain in enumerate(domains)]
    return LocalPlacer(nodes)


@pytest.mark.parametrize(
    ("domains", "error"),
    [
        (("a",) * 6, Unavailable),  # nodes enough, all of which fail together
        (("a", "a", "b"), StorageFull),  # 1+2 survives the loss of a or of b
        (("a", "b"), Unavailable),
        (tuple("abcdef"), StorageFull),
    ],
)
async def test_what_lacks_is_named(domains: tuple[str, ...], error: type[Exception]) -> None:
    full = placer(*domains, free=100)
    await full.probe(force=True)
    with pytest.raises(error):
        choose_target(full, STANDARD, 1 << 20)


async def test_a_placement_is_found_where_domains_suffice() -> None:
    target = choose_target(placer("a", "a", "b"), STANDARD, 1 << 20)
    assert str(target.scheme) == "1+2"
    assert target.narrow
