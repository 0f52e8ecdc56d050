"""Open piece files, kept for the next read. Used on the event loop only."""

from __future__ import annotations

import os
from collections import OrderedDict

from backends.disk.system import close_quietly


class PieceFile:
    """A piece open for reading. Closes when the last reference goes, so eviction never hurts a read under way."""

    __slots__ = ("checked", "descriptor", "inode", "size")

    def __init__(self, descriptor: int, now: float) -> None:
        self.descriptor = descriptor
        status = os.fstat(descriptor)
        self.size = status.st_size
        self.inode = status.st_ino
        self.checked = now  # when its name was last seen to lead here (monotonic seconds)

    def __del__(self) -> None:
        close_quietly(self.descriptor)


class PieceFiles:
    """The most recently read pieces, at most `limit` open at once (besides those that a read holds)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._files: OrderedDict[bytes, PieceFile] = OrderedDict()
        self.removals = 0  # grows with every `remove`; see DiskBackend.get

    def get(self, locator: bytes) -> PieceFile | None:
        file = self._files.get(locator)
        if file is not None:
            self._files.move_to_end(locator)
        return file

    def add(self, locator: bytes, file: PieceFile) -> None:
        self._files[locator] = file
        self._files.move_to_end(locator)
        while len(self._files) > self._limit:
            self._files.popitem(last=False)

    def remove(self, locator: bytes) -> None:
        self.removals += 1
        self._files.pop(locator, None)

    def clear(self) -> None:
        self.removals += 1
        self._files.clear()
