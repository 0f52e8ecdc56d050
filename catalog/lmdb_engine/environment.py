"""The open LMDB file: its databases, its format record and its errors in our words."""

from __future__ import annotations

import errno
import os
import resource
import sys
from pathlib import Path
from typing import Any, Final

import lmdb
import msgspec

from catalog.errors import CatalogError, CatalogFailed, CatalogFull, Corrupt, FutureVersion
from catalog.lmdb_engine.folder import DATA_NAME, FolderLock, nobody_maps, reserve_reader_table, sync_folder
from catalog.lmdb_engine.pages import check_file
from catalog.lmdb_engine.repack import discard_copy, install
from catalog.lmdb_engine.snapshot import SEQUENCE_KEY, Snapshot

#: What this program writes and the newest that it reads.
FORMAT: Final = 1

_FORMAT_KEY: Final = b"format"
_LEAST_MAP: Final = 1 << 28
_MOST_GUESSED: Final = 1 << 38  # where the writer's map is too large for the reader
#: Up to this many pages the whole file is checked at opening (about 0.2 s).
_CHECKED_PAGES: Final = 16_384
_LEAST_SPACE: Final = 64 << 20
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DAMAGE: Final = (
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.NotFoundError,
    lmdb.IncompatibleError,
    lmdb.PanicError,
)


class Databases:
    """An LMDB environment with the databases `rows`, `long` (see longkeys.py) and `meta` (format, sequence)."""

    _env: Any

    def _open_databases(self) -> None:
        self.rows = self._env.open_db(b"rows", create=False)
        self.long = self._env.open_db(b"long", create=False)
        self.meta = self._env.open_db(b"meta", create=False)

    def _check_format(self, folder: Path) -> None:
        with self._env.begin() as txn:
            stored = txn.get(_FORMAT_KEY, db=self.meta)
        try:
            version = msgspec.msgpack.decode(stored or b"", type=int)
        except msgspec.DecodeError:
            raise Corrupt(f"the catalog in {folder} has no readable format record; restore it from a backup") from None
        if version > FORMAT:
            raise FutureVersion(
                f"the catalog in {folder} has format {version}, this program reads up to {FORMAT}: use a newer one"
            )

    @property
    def databases(self) -> dict[bytes, Any]:
        return {b"rows": self.rows, b"long": self.long, b"meta": self.meta}

    @property
    def raw(self) -> Any:
        """LMDB's own object."""
        return self._env

    def snapshot(self) -> Snapshot:
        """A new view of what is committed."""
        return Snapshot(self._env, self.rows, self.long, self.meta)

    def closed_snapshot(self) -> Snapshot:
        """A view that shows nothing before it is renewed."""
        return Snapshot(self._env, self.rows, self.long, self.meta, closed=True)

    def rebind(self, snapshot: Snapshot) -> None:
        """Let a closed snapshot show what is committed here."""
        snapshot.rebind(self._env, self.rows, self.long, self.meta)

    def close(self) -> None:
        """Let go of the file. Nothing may read it any more."""
        self._env.close()


class GuestEnvironment(Databases):
    """The environment of a catalog that another process owns and writes, for reading only. A process may have it open
    once, and only while the owner knows of it."""

    def __init__(self, folder: Path) -> None:
        """Blocking, but short. Raises Corrupt, FutureVersion, CatalogFailed."""
        self._env = _map(folder, 0, readonly=True)
        try:
            while True:
                try:
                    self._open_databases()
                    self._check_format(folder)
                    break
                except lmdb.MapResizedError:
                    self.adopt_size()
        except BaseException as error:
            self.close()
            if isinstance(error, _DAMAGE):
                raise Corrupt(f"the catalog in {folder} is damaged: {error}; restore it from a backup") from error
            if isinstance(error, lmdb.Error):
                raise CatalogFailed(f"the catalog in {folder} can't be read: {error}") from error
            raise

    def adopt_size(self) -> None:
        """Map as much as the owner does by now. No snapshot may be open. Raises CatalogFailed when the address space
        does not suffice."""
        try:
            self._env.set_mapsize(0)
        except lmdb.Error as error:
            raise CatalogFailed(f"no address space for the catalog: {error}") from error


class Environment(Databases):
    """The environment of the process that owns the folder and writes."""

    def __init__(self, folder: Path, map_size: int) -> None:
        """Open or create. Raises Locked, Corrupt, FutureVersion."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FolderLock(folder)
        try:
            self._data = folder / DATA_NAME
            fresh = not self._data.exists() or self._data.stat().st_size == 0
            if not fresh:
                check_file(self._data, pages=_CHECKED_PAGES)
            discard_copy(folder)  # first: it may hold the last of the disk's space
            try:
                reserve_reader_table(folder)
            except OSError as error:
                raise CatalogFull(f"the catalog's disk ({folder}) has no room: {error.strerror}") from error
            self._env = _map(folder, map_size)
        except BaseException:
            self._lock.release()
            raise
        try:
            # Readers that were killed would keep pages from being used again.
            self._env.reader_check()
            if fresh:
                self._create()
                sync_folder(folder)
                sync_folder(folder.parent)
            self._open_databases()
            self._check_format(folder)
        except BaseException as error:
            self.close()
            if isinstance(error, _DAMAGE):
                raise Corrupt(f"the catalog in {folder} is damaged: {error}; restore it from a backup") from error
            if isinstance(error, lmdb.Error):
                raise self.translate(error) from error
            raise

    def _create(self) -> None:
        for name in (b"rows", b"long", b"meta"):
            self._env.open_db(name)
        self.meta = self._env.open_db(b"meta")
        with self._env.begin(write=True) as txn:
            txn.put(_FORMAT_KEY, msgspec.msgpack.encode(FORMAT), db=self.meta)

    def exchange(self, copy: Path) -> bool:
        """Put a copy of the file in its place and open that. No transaction may be open; blocking, but short. Returns
        False, with the file as it was, when another process has it open: that one would go on reading it, and with
        it LMDB's table of readers, which tells the number of the newest commit. When it raises, which of the two files
        a crash would leave is unknown, so nothing may be written any more."""
        size = self._env.info()["map_size"]
        self._env.close()
        try:
            alone = nobody_maps(self._data.parent)
            if alone:
                install(copy, self._data)
            return alone
        finally:
            self._env = _map(self._data.parent, size)
            self._open_databases()

    def clear_readers(self) -> None:
        """Free what ended processes still hold in the table of readers, which keeps pages from being used again."""
        self._env.reader_check()

    def file_bytes(self) -> int:
        """What the file takes of the disk."""
        return self._data.stat().st_blocks * 512

    def free_bytes(self) -> int:
        """What the file's disk has left for us."""
        space = os.statvfs(self._data.parent)
        return space.f_bavail * space.f_frsize

    @property
    def folder(self) -> Path:
        return self._data.parent

    def stored_sequence(self) -> int:
        """The sequence of the last commit."""
        with self._env.begin() as txn:
            return int.from_bytes(txn.get(SEQUENCE_KEY, db=self.meta) or b"", "big")

    def put_sequence(self, txn: Any, sequence: int) -> None:
        txn.put(SEQUENCE_KEY, sequence.to_bytes(8, "big"), db=self.meta)

    def grow(self) -> None:
        """Double the map. No transaction may be open. Raises lmdb.Error when the address space does not suffice."""
        self._env.set_mapsize(self._env.info()["map_size"] * 2)

    def translate(self, error: BaseException) -> CatalogError:
        """A failed write in our words: CatalogFull when it seems to have failed only for want of space, so that a later
        one may succeed; else CatalogFailed. Whether a commit is in doubt it can't tell: see `Writer`."""
        code = getattr(error, "code", getattr(error, "errno", None))
        full = isinstance(error, (lmdb.MapFullError, lmdb.TxnFullError, lmdb.DiskError)) or code in _NO_SPACE
        # LMDB calls a write that was cut short for want of space an I/O error.
        if full or (code == errno.EIO and self._lacks_space()):
            return CatalogFull(f"no space for the catalog: {error}")
        return CatalogFailed(f"the catalog can't be written: {error}; it refuses writes until it is opened anew")

    def _lacks_space(self) -> bool:
        disk = os.statvfs(self._data)
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        room = sys.maxsize if limit == resource.RLIM_INFINITY else limit - self._data.stat().st_size
        return min(disk.f_bavail * disk.f_frsize, room) < _LEAST_SPACE

    def close(self) -> None:
        super().close()
        self._lock.release()


def _map(folder: Path, map_size: int, *, readonly: bool = False) -> Any:
    """Open with as much address space as the system grants, down to a quarter GiB; 0 is what the writer has."""
    size = map_size
    while True:
        try:
            return lmdb.open(
                str(folder), map_size=size, max_dbs=8, mode=0o600, metasync=True, sync=True, readonly=readonly
            )
        except lmdb.MemoryError as error:
            if 0 < size <= _LEAST_MAP:
                raise CatalogFailed(f"the catalog in {folder} can't be mapped: {error}") from error
            size = (size or _MOST_GUESSED) // 2
        except _DAMAGE as error:
            raise Corrupt(f"the catalog in {folder} can't be opened: {error}; restore it from a backup") from error
        except lmdb.Error as error:
            raise CatalogFailed(f"the catalog in {folder} can't be opened: {error}") from error
