"""`disk` is a backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.backends import Backend, BackendConformance
from backends.disk import DiskBackend, NodeMarker, initialise

KEY = b"a key of the deployment"


class TestDisk(BackendConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "node"

    async def make_backend(self) -> Backend:
        marker = NodeMarker(node_id=bytes(16), deployment_id=bytes(16))
        initialise(self.folder, marker, KEY)
        return DiskBackend(self.folder, marker=marker, key=KEY, floor=0)
