"""The sizes that every engine holds rows to."""

from __future__ import annotations

from collections.abc import Mapping

from catalog.interface import MAX_KEY, MAX_VALUE


def check_row(key: bytes, value: bytes) -> None:
    """Raises ValueError for a key or value that the interface does not allow."""
    if not 0 < len(key) <= MAX_KEY:
        raise ValueError(f"a key has {len(key)} bytes; 1 to {MAX_KEY} are allowed")
    if len(value) > MAX_VALUE:
        raise ValueError(f"a value has {len(value)} bytes; {MAX_VALUE} are allowed")


def check_rows(writes: Mapping[bytes, bytes | None]) -> None:
    """The same for all that a transaction writes or removes."""
    for key, value in writes.items():
        if not 0 < len(key) <= MAX_KEY or (value is not None and len(value) > MAX_VALUE):
            check_row(key, value or b"")
