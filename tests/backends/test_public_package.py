"""What third parties may import stays importable, and stays small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import atoll.backends

EXPORTED = {
    "MAX_LOCATOR",
    "MAX_NAME",
    "AlreadyExists",
    "Backend",
    "BackendConformance",
    "BackendError",
    "Buffer",
    "BytesSource",
    "Capacity",
    "Entry",
    "NoSpace",
    "NotFound",
    "PermanentError",
    "PieceSource",
    "Properties",
    "RetryLater",
    "Unreadable",
    "WrongIdentity",
}
GUIDE = Path(__file__).parents[2] / "docs" / "backends.md"


def test_exported_names() -> None:
    assert set(atoll.backends.__all__) == EXPORTED
    assert all(hasattr(atoll.backends, name) for name in EXPORTED)


def test_the_suite_needs_no_test_framework() -> None:
    script = "import sys, atoll.backends; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("name", ["disk", "memory", "decorators"])
def test_a_conformance_test_is_short(name: str) -> None:
    lines = Path(__file__).with_name(f"test_{name}_conformance.py").read_text().splitlines()
    assert len(lines) < 30


async def test_the_guides_example_is_a_backend() -> None:
    """The author's guide shows a whole backend and its test; both must run as printed."""
    blocks = [block.split("```")[0] for block in GUIDE.read_text().split("```python\n")[1:]]
    scope: dict[str, object] = {"__name__": "example"}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), scope)
    suite = scope["TestDict"]
    assert isinstance(suite, type)
    assert issubclass(suite, atoll.backends.BackendConformance)
    assert len(await suite().check()) > 15
