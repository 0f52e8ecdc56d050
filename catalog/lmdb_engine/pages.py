"""A walk over an LMDB file's pages that trusts nothing, because LMDB itself trusts everything.

LMDB maps its file and follows page numbers without checking them: a truncated or overwritten file ends the process
with SIGBUS or SIGSEGV. This reads the B-trees from the newest meta page down and raises Corrupt instead. Layout: LMDB
0.9's lmdb/mdb.c, data version 1.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Final

from catalog.errors import Corrupt

_MAGIC: Final = 0xBEEFC0DE
_DATA_VERSION: Final = 1

_PAGE: Final = struct.Struct("<QHHHH")  # number, pad, flags, lower, upper
_OVERFLOW: Final = struct.Struct("<QHHI")  # number, pad, flags, count of pages
_NODE: Final = struct.Struct("<HHHH")  # low, high, flags, key size
_META: Final = struct.Struct("<IIQQ")  # magic, version, address, map size
_DB: Final = struct.Struct("<IHHQQQQQ")  # pad (page size), flags, depth, branches, leaves, overflows, entries, root
_TAIL: Final = struct.Struct("<QQ")  # last page, transaction

_BRANCH, _LEAF, _OVER = 0x01, 0x02, 0x04
_BIG, _SUB = 0x01, 0x02
_NONE: Final = (1 << 64) - 1
_DEPTH: Final = 32
_META_END: Final = _PAGE.size + _META.size + 2 * _DB.size + _TAIL.size


class PageFile:
    """An LMDB data file, looked at from outside. Close it before LMDB opens the file."""

    def __init__(self, path: Path) -> None:
        """Raises Corrupt unless the file begins with LMDB's two meta pages."""
        self._path = path
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._size = os.fstat(fd).st_size
            if self._size < _META_END:
                raise self._corrupt(f"it is cut short to {self._size} bytes")
            self._map = mmap.mmap(fd, self._size, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)
        try:
            self._read_meta()
        except BaseException:
            self._map.close()
            raise

    def close(self) -> None:
        self._map.close()

    @property
    def is_short(self) -> bool:
        """Whether the file ends before the last page that was ever used. That is sound when those pages were used
        and freed in one transaction, and damage otherwise; `walk` tells."""
        return self._size < (self.last_page + 1) * self.page_size

    @property
    def pages(self) -> int:
        """Whole pages in the file."""
        return self._size // self.page_size

    def walk(self) -> None:
        """Visit every page in use. Raises Corrupt at the first that is missing or malformed."""
        try:
            for root in self._roots:
                self._tree(root, 0)
        except (struct.error, IndexError):
            raise self._corrupt("a page is malformed") from None

    def _read_meta(self) -> None:
        newest = -1
        (page_size,) = struct.unpack_from("<I", self._map, _PAGE.size + _META.size)
        if page_size not in (4096, 8192, 16384, 32768, 65536):
            raise self._corrupt("its first page is not LMDB's")
        self.page_size: int = page_size
        if self._size < page_size + _META_END:
            raise self._corrupt(f"it is cut short to {self._size} bytes")
        for base in (0, page_size):
            magic, version, _, _ = _META.unpack_from(self._map, base + _PAGE.size)
            if magic != _MAGIC:
                raise self._corrupt("its first pages are not LMDB's")
            if version != _DATA_VERSION:
                raise self._corrupt(f"it has LMDB's data version {version}, not {_DATA_VERSION}")
            last_page, transaction = _TAIL.unpack_from(self._map, base + _META_END - _TAIL.size)
            if transaction > newest:
                newest = transaction
                self.last_page: int = last_page
                dbs = base + _PAGE.size + _META.size
                self._roots = [_DB.unpack_from(self._map, dbs + i * _DB.size)[7] for i in (0, 1)]

    def _tree(self, number: int, depth: int) -> None:
        if number == _NONE:
            return
        base = self._page(number, 1)
        found, _, flags, lower, upper = _PAGE.unpack_from(self._map, base)
        kind = flags & (_BRANCH | _LEAF | _OVER)
        if found != number or kind not in (_BRANCH, _LEAF) or depth > _DEPTH:
            raise self._corrupt(f"page {number} is not what it should be")
        if not _PAGE.size <= lower <= upper <= self.page_size:
            raise self._corrupt(f"page {number} is malformed")
        for offset in struct.unpack_from(f"<{(lower - _PAGE.size) // 2}H", self._map, base + _PAGE.size):
            if not upper <= offset <= self.page_size - _NODE.size:
                raise self._corrupt(f"page {number} is malformed")
            low, high, node_flags, key_size = _NODE.unpack_from(self._map, base + offset)
            if kind == _BRANCH:
                self._tree(low | high << 16 | node_flags << 32, depth + 1)
                continue
            data, length = offset + _NODE.size + key_size, low | high << 16
            if node_flags & _BIG:
                (first,) = struct.unpack_from("<Q", self._map, base + data)
                self._overflow(first, length)
            elif data + length > self.page_size:
                raise self._corrupt(f"page {number} is malformed")
            elif node_flags & _SUB:
                self._tree(_DB.unpack_from(self._map, base + data)[7], depth + 1)

    def _overflow(self, number: int, length: int) -> None:
        base = self._page(number, 1)
        found, _, flags, count = _OVERFLOW.unpack_from(self._map, base)
        if found != number or not flags & _OVER or count * self.page_size < _PAGE.size + length:
            raise self._corrupt(f"page {number} is not what it should be")
        self._page(number, count)

    def _page(self, number: int, count: int) -> int:
        """The page's place in the file."""
        if not 2 <= number <= number + count - 1 <= self.last_page or (number + count) * self.page_size > self._size:
            raise self._corrupt(f"it refers to page {number + count - 1}, which it does not have")
        return number * self.page_size

    def _corrupt(self, what: str) -> Corrupt:
        return Corrupt(f"the catalog file {self._path} is damaged: {what}; restore it from a backup")


def check_file(path: Path, *, pages: int) -> None:
    """Raise Corrupt for a file that LMDB would crash on. The walk over all pages is made for files of up to `pages`
    pages, and always when the file is shorter than it once was."""
    if path.stat().st_size == 0:
        return  # created, but never committed to: LMDB starts it anew
    file = PageFile(path)
    try:
        if file.is_short or file.pages <= pages:
            file.walk()
    finally:
        file.close()
