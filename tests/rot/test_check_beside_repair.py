"""A check beside a repair of the same segment: what the one heals, the other does not report as unhealed."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from engine.rebuild import rebuild_segment
from engine.scrub import check_segment
from engine.segments.proof import VerifiedSegment
from tests.engine_data.world import World


async def damaged(world: World) -> bytes:
    """A segment with one damaged piece; its id."""
    await world.keep(random.Random(1).randbytes(3 << 20))
    ((segment_id, row),) = (await world.segments()).items()
    path = world.piece_path(row, 2)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    return segment_id


async def test_two_checks_that_repair(tmp_path: Path) -> None:
    world = await World(tmp_path).open()
    try:
        segment_id = await damaged(world)
        checks = await asyncio.gather(*(check_segment(world.bodies, segment_id, repair=True) for _ in range(3)))
        assert world.bodies.counters.repairs >= 1
        for check in checks:
            assert check is not None
            assert check.repaired or not check.findings, "healed by another, reported as unhealed"
    finally:
        await world.close()


async def test_a_check_that_reads_while_the_placement_changes(tmp_path: Path) -> None:
    """Pieces that were replaced and deleted under the check's eyes are no damage."""
    world = await World(tmp_path).open()
    try:
        await world.keep(random.Random(1).randbytes(3 << 20))
        ((segment_id, row),) = (await world.segments()).items()
        old = world.piece_path(row, 5)
        footer = VerifiedSegment.footer

        async def replace_meanwhile(self: VerifiedSegment, index: int) -> object:
            if index == 5 and old.exists():
                await rebuild_segment(world.bodies, segment_id, also=[5])
                old.unlink()
            return await footer(self, index)

        VerifiedSegment.footer = replace_meanwhile  # type: ignore[method-assign,assignment]
        try:
            check = await check_segment(world.bodies, segment_id)
        finally:
            VerifiedSegment.footer = footer  # type: ignore[method-assign]
        assert not old.exists()
        assert check is not None
        assert check.findings == ()
        assert check.sound == 6
    finally:
        await world.close()
