"""How much room there is, asked of the file system about once a second."""

from __future__ import annotations

import os
import threading
import time

from backends.errors import NoSpace, PermanentError
from backends.interface import Capacity

_FRESH_SECONDS = 1.0


class Space:
    """Room left on one file system above a floor that stays free. Safe to call from several threads.

    Between two looks at the file system it takes off what was written since, so a burst can't run through the floor;
    what others write on the same disk shows a second late.
    """

    def __init__(self, floor: int) -> None:
        self._floor = floor
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._total = 0
        self._used = 0
        self._free = 0
        self._writable = True

    def fresh(self) -> Capacity | None:
        """The last answer, if it is young enough to be given again."""
        with self._lock:
            return self._capacity() if time.monotonic() - self._read_at < _FRESH_SECONDS else None

    def read(self, root: int) -> Capacity:
        """Ask the file system under the open folder `root`. `used` and `total` are the whole file system's."""
        with self._lock:
            self._refresh(root)
            return self._capacity()

    def take(self, root: int, size: int) -> None:
        """Reserve room for `size` bytes about to be written. NoSpace below the floor, PermanentError when read-only."""
        with self._lock:
            if time.monotonic() - self._read_at >= _FRESH_SECONDS or self._free < size:
                self._refresh(root)
            if not self._writable:
                raise PermanentError("the file system is read-only")
            if self._free < size:
                raise NoSpace(f"{self._free} bytes free above the floor of {self._floor}; {size} more don't fit")
            self._free -= size
            self._used += size

    def _refresh(self, root: int) -> None:
        status = os.fstatvfs(root)
        self._total = status.f_blocks * status.f_frsize
        self._used = (status.f_blocks - status.f_bfree) * status.f_frsize
        self._writable = not status.f_flag & os.ST_RDONLY
        self._free = max(0, status.f_bavail * status.f_frsize - self._floor) if self._writable else 0
        self._read_at = time.monotonic()

    def _capacity(self) -> Capacity:
        return Capacity(total=self._total, used=self._used, free=self._free)
