"""How far the races are explored: reduced in the ordinary suite, further in the soak."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.races.race import small_packs


@pytest.fixture(scope="session")
def runs() -> int:
    """Schedules of each race."""
    return 150 * int(os.environ.get("ATOLL_TEST_ROUNDS", "1"))


@pytest.fixture(autouse=True)
def packs() -> Iterator[None]:
    with small_packs():
        yield
