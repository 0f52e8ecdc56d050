"""Pieces: what one node stores of a segment, shards in order and then the footer. Spec: docs/formats/object.md."""

from __future__ import annotations

from dataclasses import dataclass

from core.buffers import Buffer
from erasure.codec import Codec
from erasure.errors import DamagedFooter
from erasure.footer import Footer, check_footer, footer_length, parse_footer, piece_hash, verify_shard
from erasure.scheme import FOOTER_FIELDS, Scheme, SegmentShape
from erasure.stripe import Stripe, code_stripe, stripe_room


@dataclass(frozen=True, slots=True)
class Trailer:
    """A finished piece's footer as stored, and its piece hash."""

    footer: bytes
    digest: bytes


class SegmentBuilder:
    """Collects the hashes of a segment's stripes, in order, and makes the footers of its n pieces.

    Holds 32 bytes for each shard (12 KiB for a full segment of 4+2), never the shards.
    """

    def __init__(self, scheme: Scheme, segment_id: bytes, shard_size: int = 0, compatible: int = 0) -> None:
        self.scheme = scheme
        self.segment_id = segment_id
        self.shard_size = shard_size or scheme.shard_size
        self.sealed_length = 0
        self.stripes = 0
        self._compatible = compatible
        self._hashes: list[list[bytes]] = [[] for _ in range(scheme.n)]

    def add(self, stripe: Stripe) -> None:
        """The next stripe. Raises ValueError after a stripe that was not full."""
        if self.sealed_length != self.stripes * self.scheme.k * self.shard_size:
            raise ValueError("a segment goes on after its short last stripe")
        if stripe.sealed_length > self.scheme.k * self.shard_size:
            raise ValueError(f"a stripe of {stripe.sealed_length} bytes in shards of {self.shard_size}")
        for hashes, digest in zip(self._hashes, stripe.hashes, strict=True):
            hashes.append(digest)
        self.sealed_length += stripe.sealed_length
        self.stripes += 1

    def shape(self) -> SegmentShape:
        """What was added so far. Raises ValueError when that is nothing, or more than a segment holds."""
        return SegmentShape(self.scheme, self.shard_size, self.sealed_length)

    def finish(self) -> list[Trailer]:
        """The n pieces' trailers, by index. Raises ValueError as `shape` does."""
        shape = self.shape()
        trailers: list[Trailer] = []
        for index, hashes in enumerate(self._hashes):
            footer = Footer.build(self.segment_id, index, shape, hashes, self._compatible).encode()
            trailers.append(Trailer(footer, piece_hash(footer)))
        return trailers


@dataclass(frozen=True, slots=True)
class Piece:
    """A whole piece in memory."""

    index: int
    data: bytes  # shards, then footer
    digest: bytes  # piece hash


def build_pieces(codec: Codec, segment_id: bytes, shape: SegmentShape, sealed: Buffer) -> list[Piece]:
    """All n pieces of a segment whose sealed bytes are in memory, such as a pack. Raises ValueError for another length.

    Takes about n / k times the sealed length; large segments are coded stripe by stripe with SegmentBuilder.
    """
    source = memoryview(sealed).cast("B")
    if source.nbytes != shape.sealed_length:
        raise ValueError(f"{source.nbytes} sealed bytes, {shape.sealed_length} due")
    builder = SegmentBuilder(shape.scheme, segment_id, shape.shard_size)
    pieces = [bytearray() for _ in range(shape.scheme.n)]
    room = memoryview(bytearray(stripe_room(shape.scheme, shape.shard_length(0))))
    for number in range(shape.stripes):
        length = shape.stripe_length(number)
        start = number * shape.stripe_size
        room[:length] = source[start : start + length]
        stripe = code_stripe(codec, shape.scheme, room, length)
        builder.add(stripe)
        for piece, shard in zip(pieces, stripe.shards, strict=True):
            piece += shard
    return [
        Piece(index, bytes(piece + trailer.footer), trailer.digest)
        for index, (piece, trailer) in enumerate(zip(pieces, builder.finish(), strict=True))
    ]


def read_piece(data: Buffer) -> tuple[Footer, list[memoryview]]:
    """A whole piece's footer and its shards as views, for a reader without a catalog. Checks no hash.

    Raises DamagedFooter when the bytes are not a piece, FutureFormat.
    """
    view = memoryview(data).cast("B")
    length = footer_length(view[-FOOTER_FIELDS:])
    if length > view.nbytes:
        raise DamagedFooter(f"length {length} in a piece of {view.nbytes}")
    footer = parse_footer(view[-length:])
    return footer, _split(footer, view)


def check_piece(data: Buffer, *, segment_id: bytes, index: int, shape: SegmentShape, digest: bytes) -> Footer:
    """Prove a whole piece against the catalog. Raises as `check_footer`, and DamagedShard for the first bad shard."""
    view = memoryview(data).cast("B")
    footer = check_footer(view[-shape.footer_size :], segment_id=segment_id, index=index, shape=shape, digest=digest)
    for stripe, shard in enumerate(_split(footer, view)):
        verify_shard(footer, stripe, shard)
    return footer


def _split(footer: Footer, view: memoryview) -> list[memoryview]:
    shape = footer.shape
    if view.nbytes != shape.piece_size:
        reason = f"is of a piece of {shape.piece_size} bytes, {view.nbytes} present"
        raise DamagedFooter(reason, footer.segment_id, footer.index)
    return [
        view[shape.shard_offset(stripe) : shape.shard_offset(stripe) + shape.shard_length(stripe)]
        for stripe in range(shape.stripes)
    ]
