"""The store under test, on every catalog engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine_meta.world import World, lmdb_world, memory_world, postgres_world
from tests.harness.postgres_server import PostgresServer


@pytest.fixture(params=["memory", "lmdb", "postgres"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "memory":
        async with memory_world() as made:
            yield made
    elif request.param == "lmdb":
        async with lmdb_world(tmp_path / "catalog") as made:
            yield made
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        async with postgres_world(server) as made:
            yield made
