"""The types that bytes travel in."""

from __future__ import annotations

import ctypes
from collections.abc import AsyncIterable
from typing import Any, cast

#: Anything with the buffer protocol that the C libraries below us accept.
Buffer = bytes | bytearray | memoryview

#: A body on its way in: chunks of any size, in order. Iterated once.
Source = AsyncIterable[Buffer]

try:
    _allocate: Any = ctypes.pythonapi.PyByteArray_FromStringAndSize
    _allocate.restype, _allocate.argtypes = ctypes.py_object, (ctypes.c_char_p, ctypes.c_ssize_t)
except AttributeError:  # another Python than CPython
    _allocate = None

_SMALL = 16 << 10  # below, zeroing costs less than the call


def unset(size: int) -> bytearray:
    """A buffer whose bytes are what the memory held before: for those who write every one of them before anybody reads.

    `bytearray(size)` zeroes it, a tenth of the processor time of a large read.
    """
    if size < _SMALL or _allocate is None:
        return bytearray(size)
    return cast(bytearray, _allocate(None, size))
