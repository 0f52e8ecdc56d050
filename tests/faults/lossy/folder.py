"""`LossyFolder`: a folder that forgets what was not synced, for tests of durability.

Needs root and /dev/fuse, no packages.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class PowerCut:
    """What a cut took. `changes` counts the operations (writes, syncs, names) served since the mount."""

    lost_writes: int
    lost_names: int
    kept_writes: int
    kept_names: int
    torn_writes: int
    changes: int


class LossyFolder:
    """A mounted file system in the memory of another process.

        with LossyFolder(tmp_path / "disk") as disk:
            disk.mount()
            ...                                  # write, sync, forget to sync; in this process or in others
            disk.cut_power(seed=7, keep=0.5)     # every descriptor on it is dead now
            disk.mount()                         # what survived

    `mount(cut_after=n)` lets the power go by itself before the n-th change (from 0) that reaches the disk: with all n
    in turn a test covers every instant. Without `rename_noreplace` the file system refuses such renames, as some do.
    """

    def __init__(self, path: Path, *, rename_noreplace: bool = True) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "tests.faults.lossy.server", str(path)]
        command.append("noreplace" if rename_noreplace else "plain")
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY)

    def mount(self, *, cut_after: int = -1) -> None:
        """Power on: show the tree as the last cut left it."""
        self._ask(do="mount", cut_after=cut_after)
        self.path.stat()  # the kernel's greeting has been answered when this returns

    def cut_power(self, *, keep: float = 0.0, torn: bool = False, seed: int = 0) -> PowerCut:
        """Lose what was not synced, each change by itself, but for a random share `keep` of it, and unmount.

        `torn` keeps only some leading sectors of half of the writes that are kept. Whatever still uses the folder gets
        errors from now on, as if its process had died.
        """
        return PowerCut(**self._ask(do="cut", keep=keep, torn=torn, seed=seed))

    def unmount(self) -> int:
        """Orderly: everything is kept. Returns the number of changes served since the mount."""
        return self._ask(do="unmount")["changes"]

    def close(self) -> None:
        """Unmount and end the process; the tree is gone."""
        self._process.communicate(timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, **command: object) -> dict[str, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the file system's process has died")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer
