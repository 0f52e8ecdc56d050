"""How long the power-loss tests run: reduced in the ordinary suite, at full length in the soak."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.lossy.folder import LossyFolder


@pytest.fixture(scope="session")
def rounds() -> int:
    """A multiple of the reduced length."""
    return int(os.environ.get("ATOLL_TEST_ROUNDS", "1"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LossyFolder]:
    with LossyFolder(tmp_path / "disk") as made:
        made.mount()
        yield made
