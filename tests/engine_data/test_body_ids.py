"""Ids of bodies: ordered on an embedded catalog, where rows of one commit then lie together, random on a shared one."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

import pytest

from catalog.lmdb_engine.catalog import LmdbCatalog
from core.ids import ID_LENGTH, new_ordered_id
from tests.engine_data.world import World


async def ids(folder: Path, count: int) -> list[bytes]:
    """Of bodies stored one after the other, each in a millisecond of its own."""
    world = await World(folder).open()
    found = []
    for _ in range(count):
        found.append((await world.keep(b"x" * 5000)).ref.id)
        await asyncio.sleep(0.002)
    await world.close()
    return found


async def test_they_are_in_order_where_the_catalog_is_embedded(tmp_path: Path) -> None:
    found = await ids(tmp_path, 12)
    assert found == sorted(found)


async def test_they_are_in_no_order_where_gateways_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LmdbCatalog, "local", False)
    found = await ids(tmp_path, 12)
    assert found != sorted(found)


def test_an_ordered_id_begins_with_the_milliseconds_and_is_no_other_one() -> None:
    before = time.time_ns() // 1_000_000
    found = [new_ordered_id() for _ in range(10_000)]
    after = time.time_ns() // 1_000_000
    assert {len(one) for one in found} == {ID_LENGTH}
    assert len({one[6:] for one in found}) == len(found)
    times = [int.from_bytes(one[:6]) for one in found]
    assert all(before <= a <= b <= after for a, b in itertools.pairwise(times))
