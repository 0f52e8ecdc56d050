"""A server to rot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.live_server import LiveServer, live_server
from tests.rot.nodes import Nodes

BUCKET = "rot"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with live_server(tmp_path / "server", processes=2) as started:
        started.client().create_bucket(Bucket=BUCKET)
        yield started


@pytest.fixture
def nodes(server: LiveServer) -> Nodes:
    return Nodes(server)
