"""The catalog's folder: who has it open, what version wrote it, and whether its file can be mapped without harm."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from catalog.errors import Corrupt, Locked

LOCK_NAME: Final = "catalog.lock"
DATA_NAME: Final = "data.mdb"

_MAGIC: Final = 0xBEEFC0DE
_DATA_VERSION: Final = 1
_META: Final = struct.Struct("<IIQQ")  # magic, version, address, map size
_META_OFFSET: Final = 16  # behind the page header
_PAGE_SIZE_OFFSET: Final = _META_OFFSET + 24  # md_pad of the free list's record holds it
_LAST_PAGE: Final = struct.Struct("<QQ")  # last page, transaction id
_LAST_PAGE_OFFSET: Final = _META_OFFSET + 24 + 2 * 48


class FolderLock:
    """An exclusive lock on a folder, held until `release` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        """Raises Locked when another process (or another catalog of this one) holds it."""
        self._fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise Locked(f"the catalog in {folder} is open in another process; stop that one first") from None

    def release(self) -> None:
        os.close(self._fd)


class Meta:
    """What one of the two meta pages of an LMDB file says."""

    __slots__ = ("last_page", "page", "page_size", "transaction")

    def __init__(self, page: bytes, page_size: int) -> None:
        self.page = page
        self.page_size = page_size
        self.last_page, self.transaction = _LAST_PAGE.unpack_from(page, _LAST_PAGE_OFFSET)


def read_meta(fd: int, path: Path) -> Meta:
    """The newer meta page of an LMDB file. Raises Corrupt when the file is none."""
    first = os.pread(fd, 4096, 0)
    if len(first) < _LAST_PAGE_OFFSET + _LAST_PAGE.size:
        raise Corrupt(f"{path} is cut short: it has {len(first)} bytes")
    (page_size,) = struct.unpack_from("<I", first, _PAGE_SIZE_OFFSET)
    if page_size not in (4096, 8192, 16384, 32768, 65536):
        raise Corrupt(f"{path} is not a catalog file, or its first page is damaged")
    pages = [first, os.pread(fd, 4096, page_size)]
    for page in pages:
        if len(page) < _LAST_PAGE_OFFSET + _LAST_PAGE.size:
            raise Corrupt(f"{path} is cut short within its second page")
        magic, version, _, _ = _META.unpack_from(page, _META_OFFSET)
        if magic != _MAGIC:
            raise Corrupt(f"{path} is not a catalog file, or its first pages are damaged")
        if version != _DATA_VERSION:
            raise Corrupt(f"{path} has LMDB's data version {version}; {_DATA_VERSION} is the one that is used")
    return max((Meta(page, page_size) for page in pages), key=lambda meta: meta.transaction)


def check_file(path: Path) -> None:
    """Refuse a file that mapping would crash on: not LMDB's, or shorter than what it refers to. Raises Corrupt."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        if size == 0:
            return  # created, but never committed to: LMDB starts it anew
        meta = read_meta(fd, path)
    finally:
        os.close(fd)
    if size < (meta.last_page + 1) * meta.page_size:
        raise Corrupt(
            f"{path} is cut short: it has {size} bytes and refers to {(meta.last_page + 1) * meta.page_size};"
            " restore it from a backup"
        )


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
