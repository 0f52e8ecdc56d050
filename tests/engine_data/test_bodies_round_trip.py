"""Bodies of every size class come back, whole and in ranges."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from tests.engine_data.world import World

KIB, MIB = 1 << 10, 1 << 20

SIZES = [0, 1, 4 * KIB, 4 * KIB + 1, 10 * KIB, 65_536, 65_537, MIB - 1, MIB, MIB + 1, 3 * MIB + 5, 64 * MIB + 77]


@pytest.mark.parametrize("size", SIZES)
async def test_whole_and_ranges(world: World, size: int) -> None:
    kept = await world.keep(os.urandom(size))
    await world.check(kept)
    chance = random.Random(size)
    for _ in range(12 if size else 0):
        offset = chance.randrange(size)
        length = chance.randint(0, min(size - offset, 3 * MIB))
        assert await world.read(kept, offset, length) == kept.data[offset : offset + length]
        if length <= MIB:
            assert await world.bodies.fetch(kept.ref, kept.key, offset, length) == kept.data[offset : offset + length]
    if not size:
        assert await world.bodies.fetch(kept.ref, kept.key, 0, 0) == b""
    counters = world.bodies.counters
    assert counters.bodies_inline == (size <= 4 * KIB)
    assert counters.bodies_packed == (4 * KIB < size <= MIB)
    assert counters.bodies_segmented == (size > MIB)
    assert counters.decodes == counters.degraded_reads == counters.frame_failures == 0


async def test_concurrent_small_bodies_share_packs(world: World) -> None:
    kept = await asyncio.gather(*(world.keep(os.urandom(10 * KIB + i)) for i in range(64)))
    await asyncio.gather(*(world.check(each) for each in kept))
    assert await world.packs() == world.bodies.counters.packs_written < 20
