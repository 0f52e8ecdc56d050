"""ISA-L called directly: no copies, and ctypes releases the GIL for the whole product.

The shared library comes inside the pyeclib wheel, or from the system.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from core.buffers import Buffer
from erasure.codec import MatrixCodec
from erasure.errors import CodecError
from erasure.matrix import Matrix

_PYBUF_SIMPLE = 0
_PYBUF_WRITABLE = 1
#: Bytes of expanded tables for one coefficient, by ISA-L's contract.
_TABLE = 32


class _PyBuffer(ctypes.Structure):
    """CPython's Py_buffer, part of the stable ABI since 3.11."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.c_void_p, ctypes.c_int)
_get_buffer.restype = ctypes.c_int
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.c_void_p,)
_release_buffer.restype = None


class IsalCodec(MatrixCodec[ctypes.Array[ctypes.c_ubyte]]):
    """Raises CodecError when no usable ISA-L is found."""

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        library = _load([path] if path else candidates())
        self.name = "isa-l"
        self._init_tables = library.ec_init_tables
        self._init_tables.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
        self._init_tables.restype = None
        self._encode_data = library.ec_encode_data
        self._encode_data.argtypes = (
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_void_p,
        )
        self._encode_data.restype = None

    def prepare(self, k: int, rows: Matrix) -> ctypes.Array[ctypes.c_ubyte]:
        tables = (ctypes.c_ubyte * (_TABLE * k * len(rows)))()
        self._init_tables(k, len(rows), b"".join(map(bytes, rows)), tables)
        return tables

    def product(
        self, prepared: ctypes.Array[ctypes.c_ubyte], length: int, sources: Sequence[Buffer], targets: Sequence[Buffer]
    ) -> None:
        k, rows = len(sources), len(targets)
        count = k + rows
        held = (_PyBuffer * count)()
        taken = 0
        try:
            for buffer in (*sources, *targets):
                flags = _PYBUF_SIMPLE if taken < k else _PYBUF_WRITABLE
                _get_buffer(buffer, ctypes.byref(held, taken * ctypes.sizeof(_PyBuffer)), flags)
                taken += 1
            pointers = (ctypes.c_void_p * count)(*[view.buf for view in held])
            offset = k * ctypes.sizeof(ctypes.c_void_p)
            self._encode_data(length, k, rows, prepared, pointers, ctypes.byref(pointers, offset))
        finally:
            for i in range(taken):
                _release_buffer(ctypes.byref(held, i * ctypes.sizeof(_PyBuffer)))


def candidates() -> Iterator[str]:
    """Where ISA-L may be: in pyeclib's wheel, then where the system's linker looks."""
    try:
        for file in files("pyeclib") or ():
            if file.name.startswith("libisal"):
                yield str(Path(str(file.locate())))
    except PackageNotFoundError:
        pass
    found = ctypes.util.find_library("isal")
    if found:
        yield found


def _load(paths: Iterator[str] | Sequence[str]) -> ctypes.CDLL:
    for path in paths:
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        if hasattr(library, "ec_encode_data") and hasattr(library, "ec_init_tables"):
            return library
    raise CodecError("no ISA-L library that can be loaded")
