"""Small reads of what is in memory: at once where nothing is in doubt, else not at all, and then as any other."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from backends.disk import backend
from core.clock import SystemClock
from engine.segments.registry import Segment
from engine.suspicion import HealthWorker
from erasure.scheme import Span
from tests.engine_data.test_damage_and_loss import flip
from tests.engine_data.world import Kept, World

KIB = 1 << 10


async def opened(world: World, size: int, *, shards: bool) -> Kept:
    """A body in a pack whose files are open; it lies in several `shards` or in one."""
    for kept in await asyncio.gather(*(world.keep(os.urandom(size)) for _ in range(13))):
        assert await world.bodies.fetch(kept.ref, kept.key, 0, size) == kept.data
        if (len(place(world, kept)[1]) > 1) == shards:
            return kept
    raise AssertionError("no body lies so")


def place(world: World, kept: Kept) -> tuple[Segment, list[Span]]:
    """Where a body lies."""
    row = world.bodies.locations.cached(kept.ref.id)
    assert row is not None
    assert row.slice is not None
    pack, offset, length = row.slice
    segment = world.bodies.registry.cached(pack)
    assert segment is not None
    return segment, segment.shape.spans(offset, length)


def now(world: World, kept: Kept, offset: int = 0, length: int | None = None) -> bytes | None:
    return world.bodies.fetch_now(kept.ref, kept.key, offset, len(kept.data) if length is None else length)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, too, what a node was seen to be still holds when the next read comes."""
    monkeypatch.setattr(backend, "_CHECK_SECONDS", 100.0)
    monkeypatch.setattr(backend, "_RECHECK_SECONDS", 100.0)


SHARDS = pytest.mark.parametrize("shards", [False, True], ids=["one-shard", "shards"])


@SHARDS
async def test_any_range_is_had_at_once(world: World, shards: bool) -> None:
    chosen = random.Random(1)
    for size in (10 * KIB, 64 * KIB, 64 * KIB + 1, 100 * KIB, 200 * KIB):
        kept = await opened(world, size, shards=shards)
        edges = [0, 1, size - 1, size, min(size, 64 * KIB), min(size, 64 * KIB) - 1]
        ranges = [(a, b - a) for a in edges for b in edges if a < b]
        ranges += [(start := chosen.randrange(size), chosen.randint(1, size - start)) for _ in range(50)]
        for offset, length in ranges:
            found = now(world, kept, offset, length)
            if found is None:  # in more frames than are opened on the event loop
                assert offset + length > 128 * KIB
                found = await world.bodies.fetch(kept.ref, kept.key, offset, length)
            assert found == kept.data[offset : offset + length]
        for offset, length in ((-1, 2), (size, 1), (0, size + 1), (0, -1), (0, 0)):
            assert now(world, kept, offset, length) is None


@SHARDS
async def test_reads_at_once_are_counted(world: World, shards: bool) -> None:
    kept = await opened(world, 10 * KIB, shards=shards)
    counters = world.bodies.counters
    reads, read = counters.shard_reads, counters.bytes_read
    assert now(world, kept, 5, 100) == kept.data[5:105]
    assert (counters.shard_reads - reads, counters.bytes_read - read) == (len(place(world, kept)[1]), 100)


@SHARDS
async def test_what_is_in_doubt_is_not_had_at_once(world: World, shards: bool) -> None:
    kept = await opened(world, 10 * KIB, shards=shards)
    segment, spans = place(world, kept)
    span, bodies = spans[-1], world.bodies
    node = segment.piece(span.index).node

    world.placer.set_up(node, False)
    assert now(world, kept) is None
    assert await bodies.fetch(kept.ref, kept.key, 0, len(kept.data)) == kept.data
    assert bodies.counters.decodes == 1
    world.placer.set_up(node, True)
    assert now(world, kept) == kept.data

    bodies.registry.suspect(segment.id, span.index, span.stripe)
    assert now(world, kept) is None
    assert await bodies.fetch(kept.ref, kept.key, 0, len(kept.data)) == kept.data
    bodies.registry.clear_suspects(segment.id)
    bodies.registry.suspect(segment.id, span.index, span.stripe + 1)
    assert now(world, kept) == kept.data

    bodies.registry.forget(segment.id)
    assert now(world, kept) is None
    await bodies.registry.get(segment.id)
    bodies.locations.forget(kept.ref.id)
    assert now(world, kept) is None


@SHARDS
async def test_damage_is_left_to_who_recovers_and_reports_it(world: World, shards: bool) -> None:
    kept = await opened(world, 10 * KIB, shards=shards)
    segment, spans = place(world, kept)
    flip(world.piece_path(segment.row, spans[0].index), spans[0].piece_offset)
    counters = world.bodies.counters
    read = counters.bytes_read
    assert now(world, kept) is None
    assert (counters.bytes_read, counters.frame_failures) == (read, 0)
    assert await world.bodies.fetch(kept.ref, kept.key, 0, len(kept.data)) == kept.data
    assert counters.frame_failures == 1
    await HealthWorker(world.bodies, world.placer, SystemClock()).turn()
    assert counters.suspicions == 1
    assert now(world, kept) is None
