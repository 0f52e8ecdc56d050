"""Geometry of stripes, shards, segments and pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.frames import FRAME_PLAIN, FRAME_SEALED
from erasure.scheme import MAX_SEGMENT, MAX_STRIPES, Scheme, SegmentShape

schemes = st.integers(1, 32).flatmap(lambda k: st.builds(Scheme, st.just(k), st.integers(0, 32 - k)))


@st.composite
def shapes(draw: st.DrawFn) -> SegmentShape:
    """Shapes of every scheme, with lengths near frame, shard, stripe and segment edges, and packs' odd shard sizes."""
    scheme = draw(schemes)
    shard_size = draw(st.sampled_from([scheme.shard_size, FRAME_SEALED, 4096, 1000]))
    unit = draw(st.sampled_from([1, 16, FRAME_SEALED, shard_size, shard_size * scheme.k]))
    most = min(MAX_SEGMENT, MAX_STRIPES * scheme.k * shard_size)
    length = draw(st.integers(0, most // unit)) * unit + draw(st.integers(-2, 2))
    return SegmentShape(scheme, shard_size, max(1, min(most, length)))


@given(schemes)
def test_a_stripe_is_about_a_mebibyte_of_whole_frames(scheme: Scheme) -> None:
    assert scheme.shard_size % FRAME_SEALED == 0
    assert scheme.stripe_plain == scheme.stripe_size // FRAME_SEALED * FRAME_PLAIN
    assert 11 <= scheme.stripe_frames <= 32
    assert MAX_SEGMENT - scheme.stripe_size < scheme.segment_size <= MAX_SEGMENT
    assert Scheme.parse(str(scheme)) == scheme


@pytest.mark.parametrize(
    ("k", "frames"), [(1, 16), (2, 8), (3, 5), (4, 4), (5, 3), (6, 3), (8, 2), (10, 2), (11, 1), (16, 1), (32, 1)]
)
def test_frames_per_shard_is_the_formats(k: int, frames: int) -> None:
    assert Scheme(k, 0).frames_per_shard == frames


@pytest.mark.parametrize(("k", "m"), [(0, 2), (-1, 2), (4, -1), (30, 3), (33, 0)])
def test_impossible_schemes_are_refused(k: int, m: int) -> None:
    with pytest.raises(ValueError, match="scheme"):
        Scheme(k, m)


@pytest.mark.parametrize("text", ["", "4", "4+", "+2", "4+2+1", "4-2", " 4+2", "４+2", "0x4+2"])
def test_odd_scheme_names_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a scheme"):
        Scheme.parse(text)


@pytest.mark.parametrize(
    ("shard_size", "length"),
    [(0, 10), (-1, 10), (MAX_SEGMENT + 1, 10), (10, 0), (10, -1), (FRAME_SEALED, MAX_SEGMENT + 1), (1, 4 * 4096 + 1)],
)
def test_impossible_segments_are_refused(shard_size: int, length: int) -> None:
    with pytest.raises(ValueError):
        SegmentShape(Scheme(4, 2), shard_size, length)


@given(shapes())
def test_pieces_hold_every_sealed_byte_and_less_than_k_of_padding(shape: SegmentShape) -> None:
    k = shape.scheme.k
    assert 0 <= shape.shards_size * k - shape.sealed_length < k
    assert sum(shape.stripe_length(s) for s in range(shape.stripes)) == shape.sealed_length
    assert all(shape.stripe_length(s) == shape.stripe_size for s in range(shape.stripes - 1))
    last = shape.stripes - 1
    assert shape.shard_offset(last) + shape.shard_length(last) == shape.shards_size
    with pytest.raises(IndexError):
        shape.stripe_length(shape.stripes)


@given(st.data())
def test_spans_name_each_byte_once_and_in_order(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    offset = data.draw(st.integers(0, shape.sealed_length))
    length = data.draw(st.integers(0, min(shape.sealed_length - offset, 40 * shape.shard_size)))
    at = offset
    spans = shape.spans(offset, length)
    for span in spans:
        assert 0 <= span.index < shape.scheme.k
        assert span.length > 0
        assert span.start + span.length <= shape.shard_length(span.stripe)
        assert span.stripe * shape.stripe_size + span.index * shape.shard_length(span.stripe) + span.start == at
        assert span.piece_offset == shape.shard_offset(span.stripe) + span.start
        at += span.length
    assert at == offset + length
    assert sorted({s.stripe for s in spans}) == list(shape.stripes_of(offset, length))


@given(st.data())
def test_a_single_span_is_told_apart(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    offset = data.draw(st.integers(0, shape.sealed_length))
    length = data.draw(st.integers(0, min(shape.sealed_length - offset, 2 * shape.shard_size)))
    spans = shape.spans(offset, length)
    assert shape.span(offset, length) == (spans[0] if len(spans) == 1 else None)
    for outside in ((-1, 1), (offset, shape.sealed_length - offset + 1), (shape.sealed_length, 1), (offset, -1)):
        assert shape.span(*outside) is None


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, 101), (101, 0), (50, -1)])
def test_spans_outside_the_segment_are_refused(offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="range"):
        SegmentShape(Scheme(4, 2), 10, 100).spans(offset, length)


@given(schemes, st.integers(0, 3 * MAX_SEGMENT))
def test_shapes_cut_a_body_at_stripe_edges(scheme: Scheme, length: int) -> None:
    cut = list(scheme.shapes(length))
    assert sum(shape.sealed_length for shape in cut) == length
    assert all(shape.sealed_length == scheme.segment_size for shape in cut[:-1])
