"""How long the suites run that can run long: reduced by default, at full length in the soak (`make soak`)."""

from __future__ import annotations

import os

import pytest

#: Set to 1 by `make soak`. Servers under test never see it: their environment holds no ATOLL_ variable of ours.
VARIABLE = "ATOLL_SOAK"


@pytest.fixture(scope="session")
def soak() -> bool:
    """Whether this is the full-length run."""
    return os.environ.get(VARIABLE) == "1"


@pytest.fixture(scope="session")
def rounds(soak: bool) -> int:
    """A multiple of the reduced length."""
    return 20 if soak else 1
