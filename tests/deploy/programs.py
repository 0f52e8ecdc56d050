"""Where the servers and checkers are that `make peers` brings."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.clients.conftest import PEERS, need

ROOT = PEERS.parent
SCHEMAS = PEERS / "kubernetes-schemas"


def program(environment: str, path: str) -> str:
    """`path` of what was unpacked or built into `.peers/<environment>`, else the one that is installed."""
    ours = PEERS / environment / path
    name = Path(path).name
    return need(ours if ours.exists() else shutil.which(name), name)


def library_path(environment: str) -> dict[str, str]:
    """The environment that a program unpacked from Debian's packages needs to find its libraries."""
    folders = sorted({str(one.parent) for one in (PEERS / environment).rglob("*.so*")})
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(folders)} if folders else dict(os.environ)


def run(*command: str, given: str = "", environment: str = "") -> subprocess.CompletedProcess[str]:
    """Run a checker, one that was unpacked into `.peers/<environment>` say, on `given` to its end; its code and what it
    said are the caller's to judge."""
    env = library_path(environment) if environment else None
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, env=env)
