"""How long the crash tests run: reduced in the ordinary suite, at full length in the soak."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def hits() -> int:
    """How many times each crash point is hit."""
    return int(os.environ.get("ATOLL_TEST_CRASHES", "2"))
