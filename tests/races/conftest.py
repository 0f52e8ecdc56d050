"""How far the races are explored: reduced in the ordinary suite, further in the soak."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.races.race import small_packs


@pytest.fixture(scope="session")
def runs(rounds: int) -> int:
    """Schedules of each race."""
    return 150 * rounds


@pytest.fixture(autouse=True)
def packs() -> Iterator[None]:
    with small_packs():
        yield
