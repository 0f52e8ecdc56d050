"""The store under test, on both embedded catalogs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine_meta.world import World, lmdb_world, memory_world


@pytest.fixture(params=["memory", "lmdb"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "memory":
        async with memory_world() as made:
            yield made
    else:
        async with lmdb_world(tmp_path / "catalog") as made:
            yield made
