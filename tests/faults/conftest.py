"""Small file systems for servers to fill."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class Mounted:
    """A tmpfs of its own."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", folder], check=True)

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.folder], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=False)


@pytest.fixture
def mount() -> Iterator[Callable[[Path, str], Mounted]]:
    mounted: list[Mounted] = []

    def make(folder: Path, size: str) -> Mounted:
        mounted.append(Mounted(folder, size))
        return mounted[-1]

    yield make
    for one in reversed(mounted):
        one.unmount()
