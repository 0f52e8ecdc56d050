"""How long the crash tests run: reduced in the ordinary suite, at full length in the soak."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def hits(soak: bool) -> int:
    """How many times each crash point is hit."""
    return 20 if soak else 2
