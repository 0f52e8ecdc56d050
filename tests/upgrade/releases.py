"""What is kept of each release: its program as a wheel, folders that it wrote, and what each key in them must answer.

`releases/VERSION/` holds the wheel; `data.tar.xz` with a data folder, its root key and a backup of its catalog; and
`data.json`, the answers. From the first release with PostgreSQL on there are also `shared.tar.xz` and `shared.json`:
node folders, the root key, and the database as SQL. None of them changes once its release is out; `make_fixture.py` has
made them.
"""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("releases")


#: Every release, oldest first.
VERSIONS = sorted(
    (folder.name for folder in FOLDER.iterdir()), key=lambda version: [int(number) for number in version.split(".")]
)
#: The one that the tree's program must be able to serve beside, and be rolled back to.
PREVIOUS = VERSIONS[-1]


def wheel(version: str) -> Path:
    """The release's program."""
    (found,) = (FOLDER / version).glob(f"atoll-{version}-*.whl")
    return found


def unpack_program(version: str, target: Path) -> Path:
    """Make `target` a folder of the release's packages, for `LiveServer.packages`."""
    with zipfile.ZipFile(wheel(version)) as archive:
        archive.extractall(target)
    return target


def unpack(version: str, name: str, target: Path) -> Any:
    """Put a fixture's files into `target`; the answers that its keys must give."""
    with tarfile.open(FOLDER / version / f"{name}.tar.xz") as archive:
        # Python 3.11.4 and newer know filters, 3.12 warns without one.
        options: dict[str, Any] = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}
        archive.extractall(target, **options)
    return json.loads((FOLDER / version / f"{name}.json").read_text())


def pack(source: Path, names: list[str], target: Path) -> None:
    """Archive files and folders of `source`, without what only a running process has."""

    def keep(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if not (entry.isreg() or entry.isdir()) or Path(entry.name).name in ("lock", "catalog.lock", "lock.mdb"):
            return None
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(target, "w:xz", preset=9) as archive:
        for name in sorted(names):
            archive.add(source / name, name, filter=keep)
