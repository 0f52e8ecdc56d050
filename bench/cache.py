"""Memory as it is on a machine that has run for a while: hardly a page is free, most hold what was read.

A virtual machine's host may take back memory that is free, and give it again one page at a time when it is touched: 12
µs for 4 KiB where this was written, ten times what the page's use costs. Whoever writes most new pages pays for that,
and the more of a bench has run the more pages are new.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_SPARE = 1 << 30  # bytes that stay free
_BLOCK = 8 << 20


def free() -> int:
    """Bytes of memory that nothing uses."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemFree:"):
            return int(line.split()[1]) * 1024
    raise LookupError("/proc/meminfo has no MemFree")


@contextlib.contextmanager
def all_used(folder: Path) -> Iterator[None]:
    """In here free memory holds a file without a block on the disk, which the kernel forgets for whoever needs it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "cache"
    size = max(free() - _SPARE, 0)
    try:
        with path.open("w+b") as file:
            os.truncate(file.fileno(), size)
            buffer = bytearray(_BLOCK)
            while file.readinto(buffer):
                pass
            yield
    finally:
        path.unlink(missing_ok=True)
