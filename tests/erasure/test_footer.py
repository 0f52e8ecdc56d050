"""Footers: round trip, hostile bytes, and what a shard or footer in the wrong place is called."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.errors import DamagedFooter, DamagedShard, FutureFormat, WrongPiece
from erasure.footer import (
    MAX_FOOTER,
    Footer,
    check_footer,
    footer_length,
    parse_footer,
    piece_hash,
    shard_hash,
    verify_shard,
)
from erasure.scheme import FOOTER_FIELDS, Scheme, SegmentShape

SEGMENT = bytes(range(16))
SHAPE = SegmentShape(Scheme(4, 2), 100, 1010)  # two full stripes, then shards of 53 bytes
SHARDS = [random.Random(i).randbytes(SHAPE.shard_length(i)) for i in range(SHAPE.stripes)]
FOOTER = Footer.build(SEGMENT, 3, SHAPE, [shard_hash(shard) for shard in SHARDS], compatible=0x80000001)
ENCODED = FOOTER.encode()


def patched(offset_in_fields: int, form: str, value: int) -> bytes:
    data = bytearray(ENCODED)
    struct.pack_into(form, data, len(data) - FOOTER_FIELDS + offset_in_fields, value)
    return bytes(data)


@given(
    st.integers(1, 31).flatmap(lambda k: st.builds(Scheme, st.just(k), st.integers(1, 32 - k))),
    st.integers(1, 5000),
    st.integers(1, 400_000),
    st.integers(0, (1 << 32) - 1),
    st.data(),
)
def test_footers_round_trip(scheme: Scheme, shard_size: int, length: int, bits: int, data: st.DataObject) -> None:
    length = min(length, 100 * shard_size * scheme.k)
    shape = SegmentShape(scheme, shard_size, length)
    index = data.draw(st.integers(0, scheme.n - 1))
    footer = Footer(SEGMENT, index, shape, random.Random(length).randbytes(32 * shape.stripes), bits)
    encoded = footer.encode()
    assert len(encoded) == shape.footer_size
    assert footer_length(encoded[-FOOTER_FIELDS:]) == len(encoded)
    assert parse_footer(encoded) == footer
    assert check_footer(encoded, segment_id=SEGMENT, index=index, shape=shape, digest=piece_hash(encoded)) == footer


def test_unknown_compatible_bits_are_kept() -> None:
    assert parse_footer(ENCODED).compatible == 0x80000001
    assert parse_footer(ENCODED).encode() == ENCODED


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (patched(8, ">B", 2), "piece format 2"),
        (patched(8, ">B", 0), "piece format 0"),
        (patched(9, ">I", 1), "features 0x00000001"),
        (patched(9, ">I", 1 << 31), "features 0x80000000"),
        (patched(33, ">B", 2), "code 2"),
    ],
)
def test_what_a_later_program_wrote_is_refused(data: bytes, names: str) -> None:
    with pytest.raises(FutureFormat, match=names):
        parse_footer(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        ENCODED[1:],
        ENCODED[:-1],
        b"\0" + ENCODED,
        bytes(len(ENCODED)),
        bytes(MAX_FOOTER + 1),
        patched(0, ">B", 0),
        patched(34, ">B", 6),  # index beyond n
        patched(35, ">B", 0),  # k
        patched(35, ">B", 31),  # k + m > 32
        patched(37, ">I", 0),  # shard_size
        patched(37, ">I", 1),  # would need 253 stripes
        patched(37, ">I", 0xFFFFFFFF),
        patched(41, ">Q", 0),  # sealed_length
        patched(41, ">Q", 1 << 63),
        patched(41, ">Q", 1201),  # one stripe more
        patched(49, ">I", 0),  # length
        patched(49, ">I", len(ENCODED) + 32),
        patched(49, ">I", 0xFFFFFFFF),
    ],
)
def test_bytes_that_are_no_footer_are_refused(data: bytes) -> None:
    with pytest.raises(DamagedFooter):
        parse_footer(data)


@given(st.binary(max_size=300))
def test_random_bytes_never_parse(data: bytes) -> None:
    with pytest.raises(DamagedFooter):
        parse_footer(data)


@given(st.integers(0, FOOTER_FIELDS - 9), st.binary(min_size=1, max_size=12))
def test_overwritten_fields_parse_or_are_refused(at: int, noise: bytes) -> None:
    data = bytearray(ENCODED)
    start = len(data) - FOOTER_FIELDS + 8 + at
    noise = noise[: len(data) - start]
    data[start : start + len(noise)] = noise
    try:
        assert parse_footer(data).encode() == data
    except (DamagedFooter, FutureFormat):
        return


@pytest.mark.parametrize("tail", [b"", bytes(FOOTER_FIELDS), patched(49, ">I", 53), patched(49, ">I", MAX_FOOTER + 1)])
def test_impossible_footer_lengths_are_refused(tail: bytes) -> None:
    with pytest.raises(DamagedFooter):
        footer_length(tail)


@given(st.integers(0, len(ENCODED) * 8 - 1))
def test_any_flipped_bit_of_a_footer_is_refused(bit: int) -> None:
    data = bytearray(ENCODED)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises((DamagedFooter, FutureFormat)):
        check_footer(data, segment_id=SEGMENT, index=3, shape=SHAPE, digest=piece_hash(ENCODED))


@pytest.mark.parametrize(("segment", "index"), [(SEGMENT, 2), (bytes(16), 3)], ids=["another index", "another segment"])
def test_a_sound_footer_of_another_piece_is_named(segment: bytes, index: int) -> None:
    with pytest.raises(WrongPiece) as caught:
        check_footer(ENCODED, segment_id=segment, index=index, shape=SHAPE, digest=piece_hash(ENCODED))
    assert (caught.value.segment_id, caught.value.index) == (segment, index)
    assert f"piece {index} of segment {segment.hex()}" in str(caught.value)
    assert f"piece 3 of segment {SEGMENT.hex()}" in str(caught.value)


def test_a_sound_footer_that_the_catalog_does_not_know_is_refused() -> None:
    forged = Footer.build(SEGMENT, 3, SHAPE, [shard_hash(b"other")] * 3).encode()
    with pytest.raises(DamagedFooter, match="not the one in the catalog"):
        check_footer(forged, segment_id=SEGMENT, index=3, shape=SHAPE, digest=piece_hash(ENCODED))
    other = SegmentShape(Scheme(4, 2), 100, 1009)
    with pytest.raises(DamagedFooter, match="not the one in the catalog"):
        check_footer(ENCODED, segment_id=SEGMENT, index=3, shape=other, digest=piece_hash(ENCODED))


def test_sound_shards_pass() -> None:
    for stripe, shard in enumerate(SHARDS):
        verify_shard(FOOTER, stripe, shard)


@pytest.mark.parametrize(
    ("stripe", "shard", "why"),
    [
        (0, SHARDS[0][:50] + b"\0" + SHARDS[0][51:], "wrong hash"),
        (1, SHARDS[0], "wrong hash"),
        (1, SHARDS[1][:-1], "99 bytes, 100 due"),
        (2, SHARDS[1], "100 bytes, 53 due"),
        (2, b"", "0 bytes, 53 due"),
        (3, SHARDS[2], "has 3 stripes"),
        (-1, SHARDS[2], "has 3 stripes"),
    ],
    ids=["flipped", "swapped", "truncated", "replayed", "missing", "beyond", "negative"],
)
def test_a_bad_shard_is_refused_and_named(stripe: int, shard: bytes, why: str) -> None:
    with pytest.raises(DamagedShard, match=why) as caught:
        verify_shard(FOOTER, stripe, shard)
    error = caught.value
    assert (error.segment_id, error.index, error.stripe) == (SEGMENT, 3, stripe)
    assert f"shard 3 of stripe {stripe} of segment {SEGMENT.hex()}" in str(error)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Footer(bytes(15), 0, SHAPE, bytes(96)),
        lambda: Footer(SEGMENT, 6, SHAPE, bytes(96)),
        lambda: Footer(SEGMENT, -1, SHAPE, bytes(96)),
        lambda: Footer(SEGMENT, 0, SHAPE, bytes(64)),
        lambda: Footer(SEGMENT, 0, SHAPE, bytes(96), 1 << 32),
        lambda: FOOTER.shard_hash(3),
    ],
)
def test_impossible_footers_are_not_made(make: object) -> None:
    assert callable(make)
    with pytest.raises((ValueError, IndexError)):
        make()
