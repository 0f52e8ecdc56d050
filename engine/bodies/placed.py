"""Where a stored body's bytes are before any transaction names them."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from core.buffers import Buffer
from engine.bodies.stage import Slot
from engine.records_data import SegmentRow


class Inline(msgspec.Struct):
    """Sealed bytes that go into the body's own catalog row."""

    sealed: bytes


class Waiting(msgspec.Struct):
    """Sealed bytes that wait for the next pack of their storage class."""

    sealed: Buffer
    storage_class: str


class Staged(msgspec.Struct):
    """Sealed bytes that wait in the catalog until the pack is written that they have a place in (engine.settling)."""

    sealed: Buffer
    slot: Slot


@dataclass(slots=True)
class WrittenSegment:
    """A segment that is durable on nodes and that no transaction has named yet."""

    id: bytes
    row: SegmentRow
    needs_care: bool  # fewer than n pieces, or a narrower scheme than its class's: repair or recode


@dataclass(slots=True)
class Segments:
    """A body's segments, in the order of its sealed bytes."""

    segments: list[WrittenSegment]


Placed = Inline | Waiting | Staged | Segments
