"""What a third party needs to store Atoll's pieces somewhere new (docs/backends.md)."""

from __future__ import annotations

from backends.conformance import BackendConformance, BytesSource
from backends.errors import (
    AlreadyExists,
    BackendError,
    NoSpace,
    NotFound,
    PermanentError,
    RetryLater,
    Unreadable,
    WrongIdentity,
)
from backends.interface import MAX_LOCATOR, MAX_NAME, Backend, Capacity, Entry, PieceSource, Properties
from core.buffers import Buffer

__all__ = [
    "MAX_LOCATOR",
    "MAX_NAME",
    "AlreadyExists",
    "Backend",
    "BackendConformance",
    "BackendError",
    "Buffer",
    "BytesSource",
    "Capacity",
    "Entry",
    "NoSpace",
    "NotFound",
    "PermanentError",
    "PieceSource",
    "Properties",
    "RetryLater",
    "Unreadable",
    "WrongIdentity",
]
