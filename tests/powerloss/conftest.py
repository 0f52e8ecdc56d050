"""A disk that loses what was not synced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.lossy.folder import LossyFolder


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LossyFolder]:
    with LossyFolder(tmp_path / "disk") as made:
        made.mount()
        yield made
