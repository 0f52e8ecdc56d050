"""Making lost pieces again from others, footers included, without any key. The result is the lost piece, bit by bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.buffers import Buffer
from erasure.codec import Codec
from erasure.errors import DamagedFooter, DamagedShard, ErasureError
from erasure.footer import Footer, piece_hash, shard_hash, verify_shard
from erasure.piece import Piece, Trailer, read_piece
from erasure.scheme import SegmentShape


class Rebuilder:
    """Regenerates the wanted pieces of one segment, a stripe at a time and in order.

    The caller gives shards that it verified; which k they come from may differ from stripe to stripe. `compatible` is
    the segment's compatible bits, from any of its footers.
    """

    def __init__(
        self, codec: Codec, segment_id: bytes, shape: SegmentShape, wanted: Sequence[int], compatible: int = 0
    ) -> None:
        self._codec = codec
        self._segment_id = segment_id
        self._shape = shape
        self._compatible = compatible
        self._hashes: dict[int, list[bytes]] = {index: [] for index in sorted(set(wanted))}
        self._next = 0

    def stripe(self, have: Mapping[int, Buffer]) -> dict[int, bytearray]:
        """The next stripe's wanted shards, by piece index, from at least k verified shards of it.

        A wanted shard may be among `have`. Raises NotEnoughShards, ValueError for wrong lengths, IndexError after the
        last stripe.
        """
        size = self._shape.shard_length(self._next)
        for index, shard in have.items():
            if memoryview(shard).nbytes != size:
                raise ValueError(f"shard {index} of stripe {self._next}: not {size} bytes")
        made = {index: bytearray(have.get(index, size)) for index in self._hashes}
        missing = {index: shard for index, shard in made.items() if index not in have}
        self._codec.reconstruct(self._shape.scheme, have, missing)
        for index, shard in made.items():
            self._hashes[index].append(shard_hash(shard))
        self._next += 1
        return made

    def finish(self) -> dict[int, Trailer]:
        """The wanted pieces' trailers, by index. Raises ValueError before the last stripe."""
        trailers: dict[int, Trailer] = {}
        for index, hashes in self._hashes.items():
            footer = Footer.build(self._segment_id, index, self._shape, hashes, self._compatible).encode()
            trailers[index] = Trailer(footer, piece_hash(footer))
        return trailers


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of a rebuild: the wanted pieces, and the damage met in those given, each named."""

    pieces: dict[int, Piece]
    damage: list[ErasureError]


def rebuild_pieces(codec: Codec, given: Mapping[int, Buffer], wanted: Sequence[int]) -> Rebuilt:
    """Make the pieces `wanted` from whole pieces (index → bytes), some of which may be damaged.

    Each stripe is decoded from shards whose hashes are right, so pieces with damage in different stripes still serve.
    Footers are taken as they are: a caller with a catalog proves them first (`check_footer`). Raises NotEnoughShards,
    and DamagedFooter when the footers disagree about the segment or none can be read.
    """
    damage: list[ErasureError] = []
    pieces: dict[int, tuple[Footer, list[memoryview]]] = {}
    for index, data in given.items():
        try:
            footer, shards = read_piece(data)
            if footer.index != index:
                raise DamagedFooter(f"is of piece {footer.index}", footer.segment_id, index)
        except DamagedFooter as error:
            damage.append(error)
        else:
            pieces[index] = (footer, shards)
    if not pieces:
        raise DamagedFooter("none of the pieces has one")
    first = next(iter(pieces.values()))[0]
    identity = (first.segment_id, first.shape, first.compatible)
    for footer, _ in pieces.values():
        if (footer.segment_id, footer.shape, footer.compatible) != identity:
            raise DamagedFooter("disagrees with another piece's", footer.segment_id, footer.index)
    rebuilder = Rebuilder(codec, first.segment_id, first.shape, wanted, first.compatible)
    made: dict[int, bytearray] = {index: bytearray() for index in wanted}
    for stripe in range(first.shape.stripes):
        sound: dict[int, Buffer] = {}
        for index, (footer, shards) in pieces.items():
            try:
                verify_shard(footer, stripe, shards[stripe])
            except DamagedShard as error:
                damage.append(error)
            else:
                sound[index] = shards[stripe]
        for index, shard in rebuilder.stripe(sound).items():
            made[index] += shard
    trailers = rebuilder.finish()
    return Rebuilt(
        {i: Piece(i, bytes(data + trailers[i].footer), trailers[i].digest) for i, data in made.items()}, damage
    )
