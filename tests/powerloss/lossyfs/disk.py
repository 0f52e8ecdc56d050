"""The test's hand on a lossy file system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.powerloss.lossyfs.mounting import unmount

_ROOT = Path(__file__).parents[3]


class LossyDisk:
    """A mounted volume, served by a process of its own. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.syncs = 0
        self.lost = 0  # writes and names that cuts have undone
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> LossyDisk:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.powerloss.lossyfs", str(self.folder)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "mounted"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            unmount(self.folder)
        self._process.stdout.close()

    def cut(self) -> None:
        """Power off: on return nothing reaches the disk any more."""
        self._ask("cut")

    def restore(self, seed: int, *, keep: float) -> None:
        """Power on again, as `Volume.restore` says. No process may still use the old mount."""
        answer = self._ask(f"restore {seed} {keep}").split()
        self.syncs, self.lost = int(answer[1]), int(answer[2])

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()
