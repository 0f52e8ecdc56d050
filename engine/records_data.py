"""Records of the engine's data half, as `catalog.records` stores them: fields are only appended, with defaults."""

from __future__ import annotations

import enum

import msgspec

from catalog.records import Codec, Record


class PieceRow(msgspec.Struct, array_like=True, frozen=True):
    """One piece of a segment. `node` is empty where the piece was never written (a short segment)."""

    node: bytes
    locator: bytes
    digest: bytes  # 32-byte piece hash


class SegmentRow(Record, tag=1, kw_only=True, frozen=True):
    """Geometry and placement of a segment. Changes only by compare-and-set, as a whole, and then `generation` goes up:
    a rebuild changes pieces, a recode the scheme too. The sealed bytes are the same for ever."""

    code: int
    k: int
    m: int
    shard_size: int
    sealed_length: int
    storage_class: str
    pieces: tuple[PieceRow, ...]  # k + m, by piece index
    generation: int = 0


class BodyRow(Record, tag=1, kw_only=True, frozen=True):
    """Where a body's sealed bytes are: one of three, the others empty."""

    sealed: bytes = b""  # inline: the bytes themselves (never empty: an empty body is a 16-byte frame)
    slice: tuple[bytes, int, int] | None = None  # (pack id, offset, length) in a pack's sealed bytes
    segments: tuple[tuple[bytes, int], ...] = ()  # (segment id, sealed length) in order


class PackRow(Record, tag=1, kw_only=True, frozen=True):
    """Who was packed: body ids (16 bytes each, concatenated) and their sealed lengths, in the order of the bytes; and
    the epoch that wrote the pack (0: written before this was noted). While that epoch lives, a member with neither a
    body row nor a mark as dead may yet be committed by it."""

    bodies: bytes
    lengths: tuple[int, ...]
    epoch: int = 0

    def members(self) -> list[tuple[bytes, int, int]]:
        """(body id, offset, length) of each member."""
        found, offset = [], 0
        for place, length in enumerate(self.lengths):
            found.append((self.bodies[16 * place : 16 * place + 16], offset, length))
            offset += length
        return found


class DraftState(enum.IntEnum):
    """How far a draft is."""

    OPEN = 0  # its process may give out places in it
    CLOSED = 1  # it has all its members
    BORN = 2  # the pack is written and has its rows: what waits in the catalog is done with


class DraftRow(Record, tag=1, kw_only=True, frozen=True):
    """A pack that small bodies have places in before it is written; the epoch gives out the places."""

    epoch: int
    storage_class: str
    state: DraftState


class SuspectRow(Record, tag=1, kw_only=True, frozen=True):
    """Damage proven on one (piece, stripe) of one placement generation."""

    generation: int
    kind: str  # "shard", "footer" or "missing"
    seen_us: int


class RootRow(Record, tag=1, kw_only=True, frozen=True):
    """Which root key is in force: its public id and known bytes wrapped by it. `next_*` only during a rotation."""

    key_id: str
    check: bytes
    next_key_id: str = ""
    next_check: bytes = b""


class BucketKeyRow(Record, tag=1, kw_only=True, frozen=True):
    """One bucket key as wrapped by root keys: (root key id, wrapped). Two of them only during a rotation."""

    wraps: tuple[tuple[str, bytes], ...]


SEGMENT_ROW = Codec(SegmentRow)
BODY_ROW = Codec(BodyRow)
PACK_ROW = Codec(PackRow)
DRAFT_ROW = Codec(DraftRow)
SUSPECT_ROW = Codec(SuspectRow)
ROOT_ROW = Codec(RootRow)
BUCKET_KEY_ROW = Codec(BucketKeyRow)


def is_unwritten(draft: bytes) -> bool:
    """Whether the bytes of this draft's members are in the catalog alone."""
    return DRAFT_ROW.decode(draft).state is not DraftState.BORN
