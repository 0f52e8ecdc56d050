"""How the C library treats freed memory, and the collector of garbage what lives long.

Stripes come and go as buffers of about a mebibyte. By default glibc returns each to the kernel and page-faults it in
again, which costs as much as the cryptography. Keeping freed memory lets buffers be reused while hot.
"""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

#: Objects made between two looks for garbage, and how often older ones are looked through. A request makes a thousand
#: and hardly a cycle: look for those after dozens of requests only.
_GARBAGE = (50_000, 20, 20)

MMAP_THRESHOLD = 32 << 20  # glibc's maximum
TRIM_THRESHOLD = 128 << 20
TOP_PAD = 8 << 20
ARENAS = 2


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed buffers, in few arenas so that memory stays bounded. Call once, before threads start.

    False where the C library has no mallopt (musl, macOS): everything works, slower.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = (
        (_M_ARENA_MAX, ARENAS),
        (_M_MMAP_THRESHOLD, MMAP_THRESHOLD),
        (_M_TRIM_THRESHOLD, TRIM_THRESHOLD),
        (_M_TOP_PAD, TOP_PAD),
    )
    accepted = [mallopt(option, value) == 1 for option, value in settings]
    return all(accepted)


def spare_long_lived() -> None:
    """What lives until the end need not be walked by every later collection of garbage. Call once all is open."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
