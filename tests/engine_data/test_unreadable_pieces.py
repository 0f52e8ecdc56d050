"""Bad sectors: a piece that its node holds but can't read is damage to be repaired, not a node that is down."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from backends.decorators import FaultyBackend
from backends.decorators.faults import Fault, FaultRule
from backends.disk import looking
from backends.errors import Unreadable
from backends.interface import Backend
from core.clock import SystemClock
from core.workers import WorkerState
from engine.layout_data import SUSPECT
from engine.repair import RepairWorker
from engine.scrub import check_segment
from engine.suspicion import HealthWorker
from tests.engine_data.world import World

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def rules() -> list[FaultRule]:
    return []


@pytest.fixture
async def rotten(tmp_path: Path, rules: list[FaultRule]) -> AsyncIterator[World]:
    def wrapper(number: int) -> Callable[[Backend], Backend]:
        return lambda backend: FaultyBackend(backend, seed=number, rules=rules)

    world = await World(tmp_path, wrap={n: wrapper(n) for n in range(6)}).open()
    yield world
    await world.close()


@pytest.mark.parametrize("size", [20 * KIB, 5 * MIB])
async def test_a_read_meets_a_bad_sector_and_has_the_piece_made_anew(
    rotten: World, rules: list[FaultRule], size: int
) -> None:
    kept = await rotten.keep(os.urandom(size))
    (row,) = (await rotten.segments()).values()
    bad = row.pieces[0]
    rules.append(FaultRule("get", Fault.ERROR, prefix=bad.locator.decode(), error=Unreadable))
    await rotten.check(kept)
    assert rotten.placer.is_up(bad.node)
    health = HealthWorker(rotten.bodies, rotten.placer, SystemClock())
    while await health.turn() is WorkerState.BUSY:
        pass
    assert await rotten.count(SUSPECT) >= 1
    repair = RepairWorker(rotten.bodies)
    while await repair.turn() is WorkerState.BUSY:
        pass
    assert await rotten.count(SUSPECT) == 0
    (row,) = (await rotten.segments()).values()
    assert row.pieces[0].locator != bad.locator
    await rotten.check(kept)


async def test_a_check_repairs_an_unreadable_parity_piece(rotten: World, rules: list[FaultRule]) -> None:
    kept = await rotten.keep(os.urandom(5 * MIB))
    ((segment_id, row),) = (await rotten.segments()).items()
    rules.append(FaultRule("get", Fault.ERROR, prefix=row.pieces[5].locator.decode(), error=Unreadable))
    check = await check_segment(rotten.bodies, segment_id, repair=True, now_us=1)
    assert check is not None
    assert check.repaired == 1
    whole = await check_segment(rotten.bodies, segment_id)
    assert whole is not None
    assert whole.sound == 6
    await rotten.check(kept)


async def test_a_disk_tells_a_bad_sector_from_a_bad_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.keep(os.urandom(3 * MIB))
    (row,) = (await world.segments()).values()

    def spoilt(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(looking, "read_all", spoilt)
    with pytest.raises(Unreadable):
        await world.backends[row.pieces[0].node[0] - 1].get(row.pieces[0].locator, 0, 100)
