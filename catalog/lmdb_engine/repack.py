"""Rewriting the file densely: rows under random keys leave LMDB's pages about two thirds full, deleted ones free pages.

The whole file is copied in key order, which fills every page, and the copy takes the file's place in one rename.
Commits wait meanwhile (about 0.2 s for 100 MB), reads go on; so it is done when idle, and to files of bounded size.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import lmdb

from catalog.errors import FeedTrimmed
from catalog.lmdb_engine.folder import DATA_NAME, sync_folder
from core.workers import WorkerReport, WorkerState

if TYPE_CHECKING:
    from catalog.lmdb_engine.catalog import LmdbCatalog

COPY_FOLDER: Final = "repacking"


def copy_dense(source: Any, databases: Mapping[bytes, Any], folder: Path) -> Path:
    """Copy the databases of an environment's newest snapshot, given by name, into a file of its own below `folder`,
    durably; returns its path. Blocking. Raises lmdb.Error or OSError when there is no space."""
    target = folder / COPY_FOLDER
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(mode=0o700)
    # Without a table of readers, which nobody needs here: mapped on a full disk, it would end the process with SIGBUS.
    env = lmdb.open(str(target), map_size=source.info()["map_size"], max_dbs=8, mode=0o600, lock=False)
    try:
        copies = {name: env.open_db(name) for name in databases}
        with source.begin() as old, env.begin(write=True) as new:
            for name, database in databases.items():
                new.cursor(db=copies[name]).putmulti(old.cursor(db=database).iternext(), append=True)
    finally:
        env.close()
    return target / DATA_NAME


def discard_copy(folder: Path) -> None:
    """Remove what an interrupted repacking left."""
    shutil.rmtree(folder / COPY_FOLDER, ignore_errors=True)


class Repacker:
    """Worker that repacks a catalog which has grown by `growth` since it was last dense, once it is idle; forced, one
    of any size at once."""

    def __init__(
        self,
        catalog: LmdbCatalog,
        *,
        growth: float = 0.25,
        least_bytes: int = 4 << 20,
        most_bytes: int = 256 << 20,
        interval: float = 20,
    ) -> None:
        self.name = "catalog-repack"
        self.interval = interval
        self._catalog = catalog
        self._growth = growth
        self._least = least_bytes
        self._most = most_bytes
        self._dense = 0
        self._sequence = catalog.known_sequence
        self._turns = 0
        self._forced = False

    def force(self) -> None:
        """Repack in the next turn, if the copy has space."""
        self._forced = True

    async def turn(self) -> WorkerState:
        """Repack, if nothing was committed since the last turn and it is worth it, or when forced. Not while there are
        long reads, for which commits would have to wait too."""
        catalog = self._catalog
        if catalog.read_for_long:
            return WorkerState.IDLE
        before, self._sequence = self._sequence, catalog.known_sequence
        size = catalog.file_bytes()
        idle = before == self._sequence or await self._only_coordination(before)
        grown = size - self._dense > max(self._least, self._growth * self._dense)
        forced, self._forced = self._forced, False
        if (forced or (idle and grown and size <= self._most)) and catalog.free_bytes() > 2 * size:
            if await catalog.repack():
                self._dense = catalog.file_bytes()
                self._turns += 1
            else:
                self._forced = forced
        return WorkerState.IDLE

    async def _only_coordination(self, since: int) -> bool:
        """Whether nothing but heartbeats and leases, which never end and are in no feed, was committed."""
        try:
            return not await self._catalog.changes(since, limit=1)
        except FeedTrimmed:
            return False

    def report(self) -> WorkerReport:
        return WorkerReport(progress=f"{self._dense} bytes when last dense", counters={"repacked": self._turns})


def install(copy: Path, data: Path) -> None:
    """Let the copy take the place of the data file, durably."""
    copy.replace(data)
    sync_folder(data.parent)
