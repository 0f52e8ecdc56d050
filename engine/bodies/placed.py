"""Where a stored body's bytes are before any transaction names them."""

from __future__ import annotations

from dataclasses import dataclass

from engine.records_data import SegmentRow


@dataclass(slots=True)
class Inline:
    """Sealed bytes that go into the body's own catalog row."""

    sealed: bytes


@dataclass(slots=True)
class Waiting:
    """Sealed bytes that wait for the next pack of their storage class."""

    sealed: bytearray
    storage_class: str


@dataclass(slots=True)
class Segments:
    """Segments durable on nodes: (id, row) in the order of the body's sealed bytes."""

    segments: list[tuple[bytes, SegmentRow]]
    short: set[bytes]


Placed = Inline | Waiting | Segments
