"""Bodies to pieces and back, and rebuilding, around frame, shard, stripe and segment edges."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.buffers import Buffer
from erasure.codecs import default_codec
from erasure.errors import DamagedFooter, DamagedFrame, DamagedShard, NotEnoughShards
from erasure.footer import parse_footer, verify_shard
from erasure.frames import FRAME_PLAIN, FRAME_SEALED, frames_of, plain_length, sealed_length
from erasure.piece import Piece, SegmentBuilder, build_pieces, check_piece, read_piece
from erasure.portable import PortableCodec
from erasure.rebuild import Rebuilder, rebuild_pieces
from erasure.scheme import Scheme, SegmentShape
from erasure.seal import BodyOpener, BodySealer
from erasure.stripe import code_stripe, seal_stripe, stripe_room

KEY, BODY, SEGMENT = bytes(range(32)), bytes(range(16)), bytes(range(16, 32))
CODEC = default_codec()
PLAIN = random.Random(7).randbytes(5 << 20)
SCHEMES = [Scheme(4, 2), Scheme(1, 2), Scheme(2, 2), Scheme(6, 3), Scheme(10, 4), Scheme(16, 16), Scheme(31, 1)]


def write(scheme: Scheme, length: int) -> tuple[SegmentShape, list[Piece]]:
    """A body of one segment, stripe by stripe, the way an upload goes."""
    sealer, builder = BodySealer(KEY, BODY), SegmentBuilder(scheme, SEGMENT)
    room = memoryview(bytearray(stripe_room(scheme)))
    data = [bytearray() for _ in range(scheme.n)]
    for start in range(0, max(1, length), scheme.stripe_plain):
        end = min(start + scheme.stripe_plain, length)
        plain = memoryview(PLAIN)[start:end]
        stripe = seal_stripe(CODEC, scheme, sealer, start // FRAME_PLAIN, plain, room, last=end == length)
        builder.add(stripe)
        for piece, shard in zip(data, stripe.shards, strict=True):
            piece += shard
    trailers = builder.finish()
    pieces = [
        Piece(i, bytes(piece + trailer.footer), trailer.digest)
        for i, (piece, trailer) in enumerate(zip(data, trailers, strict=True))
    ]
    return builder.shape(), pieces


@st.composite
def edge_lengths(draw: st.DrawFn) -> tuple[Scheme, int]:
    """A scheme, and a plaintext length near a frame, shard or stripe edge of it (up to some three stripes)."""
    scheme = draw(st.sampled_from(SCHEMES))
    unit = draw(st.sampled_from([FRAME_PLAIN, scheme.frames_per_shard * FRAME_PLAIN, scheme.stripe_plain]))
    most = 3 * scheme.stripe_plain
    length = unit * draw(st.integers(0, most // unit)) + draw(st.integers(-40, 40))
    return scheme, max(0, min(length, len(PLAIN)))


@settings(max_examples=60, deadline=None)
@given(edge_lengths(), st.data())
def test_any_k_pieces_give_the_body_back(drawn: tuple[Scheme, int], data: st.DataObject) -> None:
    scheme, length = drawn
    shape, pieces = write(scheme, length)
    assert shape == scheme.shape(sealed_length(length))
    kept = data.draw(st.permutations(range(scheme.n)))[: scheme.k]
    given_pieces: dict[int, Buffer] = {i: pieces[i].data for i in kept}
    rebuilt = rebuild_pieces(CODEC, given_pieces, range(scheme.n))
    assert [rebuilt.pieces[i] for i in range(scheme.n)] == pieces
    assert not rebuilt.damage
    views = [memoryview(rebuilt.pieces[i].data) for i in range(scheme.k)]
    parts = [views[s.index][s.piece_offset : s.piece_offset + s.length] for s in shape.spans(0, shape.sealed_length)]
    out = bytearray(length)
    assert BodyOpener(KEY, BODY, length).open_scattered(0, parts, out) == length
    assert out == memoryview(PLAIN)[:length]


@settings(max_examples=60, deadline=None)
@given(edge_lengths(), st.data())
def test_a_degraded_range_reads_only_its_columns(drawn: tuple[Scheme, int], data: st.DataObject) -> None:
    scheme, length = drawn
    shape, pieces = write(scheme, length)
    offset = data.draw(st.integers(0, length))
    wanted = data.draw(st.integers(0, min(length - offset, 200_000)))
    lost = data.draw(st.permutations(range(scheme.n)))[: scheme.m]
    frames = frames_of(offset, wanted, length)
    parts: list[Buffer] = []
    for span in shape.spans(frames.sealed_offset, frames.sealed_length):
        columns = slice(span.piece_offset, span.piece_offset + span.length)
        if span.index in lost:
            have: dict[int, Buffer] = {p.index: p.data[columns] for p in pieces if p.index not in lost}
            made = bytearray(span.length)
            CODEC.reconstruct(scheme, have, {span.index: made})
            parts.append(made)
        else:
            parts.append(pieces[span.index].data[columns])
    out = bytearray(frames.plain_length)
    BodyOpener(KEY, BODY, length).open_scattered(frames.first, parts, out)
    assert out[frames.skip : frames.skip + wanted] == PLAIN[offset : offset + wanted]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_pack_of_any_shard_size_survives_any_loss(data: st.DataObject) -> None:
    k = data.draw(st.integers(1, 32))
    scheme = Scheme(k, data.draw(st.integers(0, 32 - k)))
    length = data.draw(st.integers(1, 20_000))
    shard_size = data.draw(st.integers(max(1, length // (k * 50)), length))
    shape = scheme.shape(length, shard_size)
    pieces = build_pieces(CODEC, SEGMENT, shape, memoryview(PLAIN)[:length])
    for piece in pieces:
        check_piece(piece.data, segment_id=SEGMENT, index=piece.index, shape=shape, digest=piece.digest)
    kept = data.draw(st.permutations(range(scheme.n)))[:k]
    rebuilt = rebuild_pieces(PortableCodec(), {i: pieces[i].data for i in kept}, range(scheme.n))
    assert [rebuilt.pieces[i] for i in range(scheme.n)] == pieces
    joined = b"".join(pieces[s.index].data[s.piece_offset : s.piece_offset + s.length] for s in shape.spans(0, length))
    assert joined == PLAIN[:length]


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_segment_ends_at_its_last_whole_stripe(extra: int) -> None:
    """Around 64 MiB: a full segment has 63 stripes of 4+2, and one byte more begins another."""
    scheme = Scheme(4, 2)
    builder = SegmentBuilder(scheme, SEGMENT)
    room = memoryview(bytearray(stripe_room(scheme)))
    stripe = code_stripe(CODEC, scheme, room, scheme.stripe_size)
    for _ in range(scheme.segment_stripes - 1):
        builder.add(stripe)
    if extra < 0:
        builder.add(code_stripe(CODEC, scheme, room, scheme.stripe_size - 1))
    else:
        builder.add(stripe)
    total = scheme.segment_size + extra
    first = next(iter(scheme.shapes(total)))
    assert builder.shape() == first
    assert {len(trailer.footer) for trailer in builder.finish()} == {first.footer_size}
    assert len(list(scheme.shapes(total))) == (2 if extra > 0 else 1)
    if extra > 0:
        builder.add(stripe)
        with pytest.raises(ValueError, match="sealed length"):
            builder.finish()


@pytest.mark.parametrize("scheme", [Scheme(4, 2), Scheme(6, 3)], ids=str)
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_body_around_a_segment_edge_comes_back_from_any_k(scheme: Scheme, extra: int) -> None:
    length = scheme.segment_stripes * scheme.stripe_plain + extra
    plain = PLAIN * (length // len(PLAIN) + 1)
    sealed = memoryview(bytearray(sealed_length(length)))
    BodySealer(KEY, BODY).seal(0, memoryview(plain)[:length], sealed, last=True)
    read, at = bytearray(), 0
    for number, shape in enumerate(scheme.shapes(len(sealed))):
        segment = sealed[at : at + shape.sealed_length]
        pieces = build_pieces(CODEC, bytes([number]) * 16, shape, segment)
        kept = random.Random(number).sample(range(scheme.n), scheme.k)
        rebuilt = rebuild_pieces(CODEC, {i: pieces[i].data for i in kept}, range(scheme.k)).pieces
        views = [memoryview(rebuilt[i].data) for i in range(scheme.k)]
        for span in shape.spans(0, shape.sealed_length):
            read += views[span.index][span.piece_offset : span.piece_offset + span.length]
        at += shape.sealed_length
    assert number == (1 if extra > 0 else 0)
    out = bytearray(length)
    assert BodyOpener(KEY, BODY, length).open(0, read, out) == length
    assert out == memoryview(plain)[:length]


def test_a_segment_does_not_go_on_after_a_short_stripe() -> None:
    scheme = Scheme(4, 2)
    builder = SegmentBuilder(scheme, SEGMENT)
    with pytest.raises(ValueError, match="sealed length 0"):
        builder.finish()
    room = memoryview(bytearray(2 * stripe_room(scheme)))
    builder.add(code_stripe(CODEC, scheme, room, 100))
    with pytest.raises(ValueError, match="short last stripe"):
        builder.add(code_stripe(CODEC, scheme, room, 100))
    with pytest.raises(ValueError, match="a stripe of"):
        SegmentBuilder(scheme, SEGMENT).add(code_stripe(CODEC, scheme, room, scheme.stripe_size + 1))


def test_padding_is_zero_whatever_the_buffer_held() -> None:
    scheme = Scheme(4, 2)
    stripe = code_stripe(CODEC, scheme, memoryview(bytearray(b"\xff" * 1000)), 101)
    assert b"".join(stripe.shards[:4])[101:] == bytes(3)
    with pytest.raises(ValueError, match="room"):
        code_stripe(CODEC, scheme, memoryview(bytearray(100)), 101)
    with pytest.raises(ValueError, match="room"):
        code_stripe(CODEC, scheme, memoryview(bytearray(100)), 0)


SHAPE, PIECES = write(Scheme(4, 2), 2 * (1 << 20) + 70_000)


def damaged(index: int, *positions: int) -> bytes:
    data = bytearray(PIECES[index].data)
    for position in positions:
        data[position] ^= 0x40
    return bytes(data)


def test_damage_in_different_stripes_of_four_pieces_is_survived_and_named() -> None:
    size = SHAPE.shard_size
    given_pieces: dict[int, Buffer] = {i: PIECES[i].data for i in range(6)}
    given_pieces[0] = damaged(0, 5)
    given_pieces[1] = damaged(1, 7, size + 9)
    given_pieces[2] = damaged(2, size + 1)
    given_pieces[5] = damaged(5, 2 * size + 1)
    rebuilt = rebuild_pieces(CODEC, given_pieces, range(6))
    assert [rebuilt.pieces[i] for i in range(6)] == PIECES
    named = [(e.index, e.stripe) for e in rebuilt.damage if isinstance(e, DamagedShard)]
    assert named == [(0, 0), (1, 0), (1, 1), (2, 1), (5, 2)]


def test_too_much_damage_in_one_stripe_is_refused() -> None:
    given_pieces: dict[int, Buffer] = {i: damaged(i, 5) if i < 3 else PIECES[i].data for i in range(6)}
    with pytest.raises(NotEnoughShards, match="3 shards of 4"):
        rebuild_pieces(CODEC, given_pieces, [0])


def test_truncated_swapped_and_foreign_pieces_are_named() -> None:
    given_pieces: dict[int, Buffer] = {i: PIECES[i].data for i in range(6)}
    given_pieces[0] = PIECES[0].data[1:]
    given_pieces[3] = PIECES[4].data
    rebuilt = rebuild_pieces(CODEC, given_pieces, [0, 3])
    assert [rebuilt.pieces[0], rebuilt.pieces[3]] == [PIECES[0], PIECES[3]]
    assert [type(e) for e in rebuilt.damage] == [DamagedFooter, DamagedFooter]
    assert "piece 0 of segment" in str(rebuilt.damage[0])
    assert "is of piece 4" in str(rebuilt.damage[1])
    foreign = build_pieces(CODEC, bytes(16), SegmentShape(Scheme(4, 2), 100, 800), PLAIN[:800])
    with pytest.raises(DamagedFooter, match="disagrees"):
        rebuild_pieces(CODEC, {0: PIECES[0].data, 1: foreign[1].data}, [2])
    with pytest.raises(DamagedFooter, match="none"):
        rebuild_pieces(CODEC, {0: b"x", 1: bytes(500)}, [2])


def test_compatible_bits_are_kept_when_a_piece_is_rebuilt() -> None:
    scheme = Scheme(2, 1)
    builder = SegmentBuilder(scheme, SEGMENT, 10, compatible=0xC0)
    stripe = code_stripe(CODEC, scheme, memoryview(bytearray(PLAIN[:30])), 19)
    builder.add(stripe)
    whole = [bytes(shard) + t.footer for shard, t in zip(stripe.shards, builder.finish(), strict=True)]
    rebuilt = rebuild_pieces(CODEC, {0: whole[0], 2: whole[2]}, [1]).pieces[1]
    assert rebuilt.data == whole[1]
    assert read_piece(rebuilt.data)[0].compatible == 0xC0


def test_the_rebuilder_takes_other_sources_for_each_stripe() -> None:
    rebuilder = Rebuilder(CODEC, SEGMENT, SHAPE, [4, 1])
    shards = [read_piece(piece.data)[1] for piece in PIECES]
    made: dict[int, bytearray] = {1: bytearray(), 4: bytearray()}
    for stripe, sources in enumerate([(0, 2, 3, 5), (1, 2, 3, 5), (0, 2, 3, 4)]):
        for index, shard in rebuilder.stripe({i: shards[i][stripe] for i in sources}).items():
            made[index] += shard
    trailers = rebuilder.finish()
    assert {i: bytes(made[i]) + trailers[i].footer for i in made} == {i: PIECES[i].data for i in made}
    with pytest.raises(IndexError):
        rebuilder.stripe({})
    early = Rebuilder(CODEC, SEGMENT, SHAPE, [4])
    with pytest.raises(ValueError, match="hashes"):
        early.finish()
    with pytest.raises(ValueError, match="shard 0 of stripe 0"):
        early.stripe({0: b"short"})
    with pytest.raises(NotEnoughShards):
        early.stripe({0: shards[0][0]})


def test_check_piece_names_the_first_bad_shard() -> None:
    good = PIECES[2]
    data = damaged(2, SHAPE.shard_size + 5, 2 * SHAPE.shard_size + 5)
    with pytest.raises(DamagedShard) as caught:
        check_piece(data, segment_id=SEGMENT, index=2, shape=SHAPE, digest=good.digest)
    assert (caught.value.index, caught.value.stripe) == (2, 1)
    for cut in (good.data[:-1], good.data[1:], b"\0" + good.data, b""):
        with pytest.raises(DamagedFooter):
            check_piece(cut, segment_id=SEGMENT, index=2, shape=SHAPE, digest=good.digest)


def test_a_shard_that_lies_with_a_matching_footer_is_caught_by_the_frame() -> None:
    """A node may forge shard and footer together; without the catalog, the seal still refuses the bytes."""
    forged = damaged(0, 5)
    footer = parse_footer(PIECES[0].data[SHAPE.shards_size :])
    with pytest.raises(DamagedShard):
        verify_shard(footer, 0, forged[: SHAPE.shard_size])
    with pytest.raises(DamagedFrame) as caught:
        BodyOpener(KEY, BODY, plain_length(SHAPE.sealed_length)).open(0, forged[:FRAME_SEALED], bytearray(FRAME_PLAIN))
    assert caught.value.frame == 0


def test_build_pieces_wants_the_length_of_the_shape() -> None:
    with pytest.raises(ValueError, match="due"):
        build_pieces(CODEC, SEGMENT, SegmentShape(Scheme(4, 2), 100, 800), PLAIN[:799])
    with pytest.raises(DamagedFooter):
        read_piece(PIECES[0].data[-100:])
