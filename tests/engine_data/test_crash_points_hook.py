"""The crash hook: off by default, kills at the named point when armed from the environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core import crashpoints
from core.memory import keep_freed_memory

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "from core.crashpoints import reach; [reach('here') or print(i, flush=True) for i in range(5)]"


def run(value: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, crashpoints.VARIABLE: value}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=30
    )


@pytest.mark.parametrize(("value", "printed"), [("here", 0), ("here:3", 2), ("elsewhere", 5), ("", 5)])
def test_kills_at_the_nth_time(value: str, printed: int) -> None:
    done = run(value)
    assert len(done.stdout.split()) == printed
    assert done.returncode == (-signal.SIGKILL if printed < 5 else 0)


def test_counts_only_while_its_file_exists(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    assert len(run(f"here:2@{gate}").stdout.split()) == 5
    gate.touch()
    done = run(f"here:2@{gate}")
    assert (len(done.stdout.split()), done.returncode) == (1, -signal.SIGKILL)


def test_malformed_value_is_refused() -> None:
    done = run("here:soon")
    assert done.returncode == 1
    assert crashpoints.VARIABLE in done.stderr


def test_freed_memory_is_kept_on_glibc() -> None:
    assert keep_freed_memory() is (os.confstr("CS_GNU_LIBC_VERSION") is not None)
