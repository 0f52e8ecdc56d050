"""A piece's footer: what proves each of its shards. Spec: docs/formats/object.md, "Piece"."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from blake3 import blake3

from core.buffers import Buffer
from core.ids import ID_LENGTH
from erasure.errors import DamagedFooter, DamagedShard, FutureFormat, WrongPiece
from erasure.scheme import FOOTER_FIELDS, HASH_SIZE, MAX_STRIPES, Scheme, SegmentShape

MAGIC = b"ATOLLPCE"
PIECE_FORMAT = 1
#: Code 1: systematic Cauchy over GF(2^8), polynomial 0x11d.
CODE = 1
#: No reader needs more than this to hold any footer.
MAX_FOOTER = MAX_STRIPES * HASH_SIZE + FOOTER_FIELDS

#: magic, format, incompatible bits, compatible bits, segment id, code, index, k, m, shard_size, sealed_length, length
_FIELDS = struct.Struct(">8sBII16sBBBBIQI")
assert _FIELDS.size == FOOTER_FIELDS


def shard_hash(shard: Buffer) -> bytes:
    """BLAKE3 of a shard, 32 bytes. Releases the GIL."""
    return blake3(shard).digest()


def piece_hash(footer: Buffer) -> bytes:
    """BLAKE3 of a footer as stored, 32 bytes: what the catalog keeps of a piece."""
    return blake3(footer).digest()


@dataclass(frozen=True, slots=True)
class Footer:
    """A piece's identity, geometry and shard hashes. Raises ValueError for what no piece can have."""

    segment_id: bytes
    index: int
    shape: SegmentShape
    hashes: bytes  # 32 bytes for each stripe's shard, in order
    compatible: int = 0  # feature bits that readers may ignore; kept when a piece is rebuilt

    def __post_init__(self) -> None:
        if len(self.segment_id) != ID_LENGTH:
            raise ValueError(f"a segment id has {ID_LENGTH} bytes")
        if not 0 <= self.index < self.shape.scheme.n:
            raise ValueError(f"piece {self.index} of scheme {self.shape.scheme}")
        if len(self.hashes) != self.shape.stripes * HASH_SIZE:
            raise ValueError(f"{len(self.hashes)} bytes of hashes for {self.shape.stripes} stripes")
        if not 0 <= self.compatible < 1 << 32:
            raise ValueError("compatible bits are 32")

    @classmethod
    def build(
        cls, segment_id: bytes, index: int, shape: SegmentShape, hashes: Sequence[bytes], compatible: int = 0
    ) -> Footer:
        """A footer from the shards' hashes, stripe by stripe."""
        return cls(segment_id, index, shape, b"".join(hashes), compatible)

    def encode(self) -> bytes:
        """The footer as it is stored at the end of the piece."""
        shape = self.shape
        return self.hashes + _FIELDS.pack(
            MAGIC,
            PIECE_FORMAT,
            0,
            self.compatible,
            self.segment_id,
            CODE,
            self.index,
            shape.scheme.k,
            shape.scheme.m,
            shape.shard_size,
            shape.sealed_length,
            shape.footer_size,
        )

    def shard_hash(self, stripe: int) -> bytes:
        """The hash of a stripe's shard. Raises IndexError for a stripe that is not there."""
        if not 0 <= stripe < self.shape.stripes:
            raise IndexError(f"stripe {stripe} of {self.shape.stripes}")
        return self.hashes[stripe * HASH_SIZE : (stripe + 1) * HASH_SIZE]


def parse_footer(data: Buffer) -> Footer:
    """Read a footer: exactly its bytes, as at the end of a piece. Trusts nothing in them, least of all the lengths.

    A sound result says only that the bytes are well-formed; `check_footer` compares them with the catalog.
    Raises DamagedFooter, FutureFormat.
    """
    view = memoryview(data).cast("B")
    if not FOOTER_FIELDS <= view.nbytes <= MAX_FOOTER:
        raise DamagedFooter(f"{view.nbytes} bytes")
    fields = _FIELDS.unpack(view[-FOOTER_FIELDS:])
    magic, version, incompatible, compatible, segment_id, code, index, k, m, shard_size, sealed_length, length = fields
    if magic != MAGIC:
        raise DamagedFooter("no magic")
    if version != PIECE_FORMAT:
        raise FutureFormat(f"piece format {version}")
    if incompatible:
        raise FutureFormat(f"piece features {incompatible:#010x}")
    if code != CODE:
        raise FutureFormat(f"code {code}")
    try:
        shape = SegmentShape(Scheme(k, m), shard_size, sealed_length)
        if length != shape.footer_size or length != view.nbytes:
            raise DamagedFooter(f"length {length}, {shape.footer_size} due, {view.nbytes} present")
        return Footer(segment_id, index, shape, bytes(view[:-FOOTER_FIELDS]), compatible)
    except ValueError as error:
        raise DamagedFooter(str(error)) from None


def footer_length(tail: Buffer) -> int:
    """The length that a footer claims, from the last 53 bytes of a piece, for a reader that has no catalog.

    Raises DamagedFooter when there is no footer, or for a length that no footer has.
    """
    view = memoryview(tail).cast("B")
    if view.nbytes < FOOTER_FIELDS:
        raise DamagedFooter(f"{view.nbytes} bytes")
    fields = _FIELDS.unpack(view[-FOOTER_FIELDS:])
    length = int(fields[-1])
    if fields[0] != MAGIC or not FOOTER_FIELDS < length <= MAX_FOOTER:
        raise DamagedFooter("no magic, or an impossible length")
    return length


def check_footer(data: Buffer, *, segment_id: bytes, index: int, shape: SegmentShape, digest: bytes) -> Footer:
    """Read a footer that the catalog knows: its piece hash is `digest`, and it is of this piece of this segment.

    Raises DamagedFooter for other bytes, WrongPiece for a sound footer of another piece, FutureFormat.
    """
    try:
        footer = parse_footer(data)
    except DamagedFooter as error:
        raise DamagedFooter(str(error), segment_id, index) from None
    if (footer.segment_id, footer.index) != (segment_id, index):
        found = f"is of piece {footer.index} of segment {footer.segment_id.hex()}"
        raise WrongPiece(found, segment_id, index)
    if footer.shape != shape or piece_hash(data) != digest:
        raise DamagedFooter("is not the one in the catalog", segment_id, index)
    return footer


def verify_shard(footer: Footer, stripe: int, shard: Buffer) -> None:
    """Raises DamagedShard, naming segment, piece and stripe, unless `shard` is the footer's. Releases the GIL."""
    if not 0 <= stripe < footer.shape.stripes:
        raise DamagedShard(footer.segment_id, footer.index, stripe, f"the segment has {footer.shape.stripes} stripes")
    due, size = footer.shape.shard_length(stripe), memoryview(shard).nbytes
    if size != due:
        raise DamagedShard(footer.segment_id, footer.index, stripe, f"{size} bytes, {due} due")
    if shard_hash(shard) != footer.shard_hash(stripe):
        raise DamagedShard(footer.segment_id, footer.index, stripe)
