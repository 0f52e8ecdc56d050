"""Records of the engine's data half. Small arrays on disk: field order is the format, new fields go last with a default.

Each is stored through `catalog.records`, which adds the version byte and the two bit sets.
"""

from __future__ import annotations

import msgspec


class PieceRow(msgspec.Struct, array_like=True, frozen=True):
    """One piece of a segment. `node` is empty where the piece was never written (a short segment)."""

    node: bytes
    locator: bytes
    digest: bytes  # 32-byte piece hash


class SegmentRow(msgspec.Struct, array_like=True, frozen=True):
    """Geometry and placement of a segment. Geometry never changes; placement changes by compare-and-set."""

    code: int
    k: int
    m: int
    shard_size: int
    sealed_length: int
    storage_class: str
    pieces: tuple[PieceRow, ...]  # k+m, by piece index
    generation: int = 0  # goes up by one with every placement swap


class InlineLocation(msgspec.Struct, array_like=True, tag=0, frozen=True):
    sealed: bytes


class SliceLocation(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """A run of a pack's sealed bytes."""

    pack: bytes
    offset: int
    length: int


class SegmentsLocation(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """Segment ids and the sealed length of each, in order."""

    segments: tuple[tuple[bytes, int], ...]


Location = InlineLocation | SliceLocation | SegmentsLocation


class PackRow(msgspec.Struct, array_like=True, frozen=True):
    """Who was packed: (body id, sealed length) in order, so offsets are running sums."""

    members: tuple[tuple[bytes, int], ...]


class SuspectRow(msgspec.Struct, array_like=True, frozen=True):
    """Damage proven on one (piece, stripe) of one placement generation."""

    node: bytes
    generation: int
    kind: str  # "shard" | "footer" | "missing"
    seen_us: int


class RootRow(msgspec.Struct, array_like=True, frozen=True):
    """Key-check values: wrapped known bytes, by root key id. `next_*` only while a rotation is under way."""

    key_id: str
    check: bytes
    next_key_id: str = ""
    next_check: bytes = b""


class BucketKeyRow(msgspec.Struct, array_like=True, frozen=True):
    """One bucket key, wrapped by the root; during a rotation by both roots: (root key id, wrapped) pairs."""

    wraps: tuple[tuple[str, bytes], ...]
