"""Opening a catalog maps a small table that must have its disk space before it is touched, else the kernel ends us."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from catalog.lmdb_engine.repack import COPY_FOLDER

OPEN = """
import asyncio, sys
from catalog.errors import CatalogFull
from catalog.lmdb_engine.catalog import LmdbCatalog
from pathlib import Path
async def main():
    await (await LmdbCatalog.open(Path(sys.argv[1]))).close()
try:
    asyncio.run(main())
except CatalogFull as error:
    print(error)
    sys.exit(3)
"""


class Disk(Protocol):
    folder: Path


def opened(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", OPEN, str(folder)], capture_output=True, text=True, timeout=60)


def fill(path: Path) -> None:
    """Take every block that is left."""
    path.parent.mkdir(exist_ok=True)
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    assert shutil.disk_usage(path.parent).free == 0


@pytest.fixture
def catalog(tmp_path: Path, mount: Callable[[Path, str], Disk]) -> Path:
    """A catalog on a small disk, whose table of readers is gone."""
    (tmp_path / "disk").mkdir()
    mount(tmp_path / "disk", "2m")
    folder = tmp_path / "disk" / "catalog"
    assert opened(folder).returncode == 0
    (folder / "lock.mdb").unlink()
    return folder


def test_a_copy_left_by_a_cut_repacking_gives_its_space_back_first(catalog: Path) -> None:
    fill(catalog / COPY_FOLDER / "data.mdb")
    done = opened(catalog)
    assert done.returncode == 0, done
    assert not (catalog / COPY_FOLDER).exists()


def test_a_disk_without_a_single_block_is_named(catalog: Path) -> None:
    fill(catalog.parent / "other")
    done = opened(catalog)
    assert (done.returncode, done.stderr) == (3, "")
    assert "has no room" in done.stdout
