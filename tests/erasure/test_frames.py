"""Arithmetic of sealed frames, around every frame edge."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.frames import FRAME_PLAIN, FRAME_SEALED, TAG, frame_count, frames_of, plain_length, sealed_length

lengths = st.one_of(
    st.integers(0, 3 * FRAME_PLAIN),
    st.builds(lambda frames, off: max(0, frames * FRAME_PLAIN + off), st.integers(0, 90_000_000), st.integers(-17, 17)),
)


@given(lengths)
def test_plain_length_inverts_sealed_length(length: int) -> None:
    assert plain_length(sealed_length(length)) == length
    assert sealed_length(length) == length + TAG * frame_count(length)


@pytest.mark.parametrize(
    ("plain", "sealed"),
    [(0, 16), (1, 17), (65_535, 65_551), (65_536, 65_552), (65_537, 65_569), (131_072, 131_104)],
)
def test_sealed_length_at_the_edges(plain: int, sealed: int) -> None:
    assert sealed_length(plain) == sealed


@pytest.mark.parametrize("sealed", [-1, 0, 15, FRAME_SEALED + 1, FRAME_SEALED + 16, 2 * FRAME_SEALED + 3])
def test_lengths_that_no_body_has_are_refused(sealed: int) -> None:
    with pytest.raises(ValueError, match="no body has"):
        plain_length(sealed)


@given(st.data())
def test_frames_of_covers_the_range_and_no_frame_more(data: st.DataObject) -> None:
    body = data.draw(lengths)
    offset = data.draw(st.integers(0, body))
    length = data.draw(st.integers(0, body - offset))
    frames = frames_of(offset, length, body)
    if not body:
        assert (frames.count, frames.sealed_length, frames.plain_length) == (1, TAG, 0)
        return
    assert frames.sealed_length == frames.plain_length + TAG * frames.count
    if not length:
        assert frames.count == 0
        return
    assert frames.first * FRAME_PLAIN + frames.skip == offset
    assert frames.skip < FRAME_PLAIN
    assert frames.skip + length <= frames.plain_length
    assert frames.plain_length - frames.skip - length < FRAME_PLAIN
    assert frames.sealed_offset == frames.first * FRAME_SEALED
    assert frames.sealed_offset + frames.sealed_length <= sealed_length(body)


@pytest.mark.parametrize(("offset", "length", "body"), [(-1, 1, 5), (0, 6, 5), (6, 0, 5), (2, -1, 5)])
def test_ranges_outside_the_body_are_refused(offset: int, length: int, body: int) -> None:
    with pytest.raises(ValueError, match="range"):
        frames_of(offset, length, body)
