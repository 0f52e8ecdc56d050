"""How long the rot tests run: reduced in the ordinary suite, at full length in the soak; and a server to rot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.live_server import LiveServer, live_server
from tests.rot.nodes import Nodes


@pytest.fixture(scope="session")
def rounds() -> int:
    """A multiple of the reduced length."""
    return int(os.environ.get("ATOLL_TEST_ROUNDS", "1"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with live_server(tmp_path / "server") as started:
        started.client().create_bucket(Bucket=BUCKET)
        yield started


@pytest.fixture
def nodes(server: LiveServer) -> Nodes:
    return Nodes(server)


BUCKET = "rot"
