"""Sealing and opening: round trips at frame edges; every tampering is refused and named."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.errors import DamagedFrame
from erasure.frames import FRAME_PLAIN, FRAME_SEALED, TAG, frames_of, sealed_length
from erasure.seal import BodyOpener, BodySealer, open_frame, seal_whole

KEY = bytes(range(32))
BODY = bytes(range(100, 116))
PLAIN = random.Random(1).randbytes(4 * FRAME_PLAIN)

edges = st.builds(
    lambda frames, off: max(0, frames * FRAME_PLAIN + off), st.integers(0, 3), st.sampled_from([-16, -1, 0, 1, 15, 17])
)


def sealed_body(length: int, body: bytes = BODY, key: bytes = KEY) -> bytearray:
    out = bytearray(sealed_length(length))
    assert BodySealer(key, body).seal(0, memoryview(PLAIN)[:length], out, last=True) == len(out)
    return out


@settings(max_examples=30)
@given(edges, st.data())
def test_any_range_opens(length: int, data: st.DataObject) -> None:
    sealed = memoryview(sealed_body(length))
    offset = data.draw(st.integers(0, length))
    wanted = data.draw(st.integers(0, length - offset))
    frames = frames_of(offset, wanted, length)
    out = bytearray(frames.plain_length)
    part = sealed[frames.sealed_offset : frames.sealed_offset + frames.sealed_length]
    assert BodyOpener(KEY, BODY, length).open(frames.first, part, out) == frames.plain_length
    assert out[frames.skip : frames.skip + wanted] == PLAIN[offset : offset + wanted]


@settings(max_examples=30)
@given(edges, st.data())
def test_sealing_by_stripes_is_sealing_at_once(length: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(1, 3)) * FRAME_PLAIN
    sealer, pieces = BodySealer(KEY, BODY), bytearray()
    for start in range(0, max(length, 1), step):
        end = min(start + step, length)
        room = bytearray(sealed_length(end - start))
        sealer.seal(start // FRAME_PLAIN, PLAIN[start:end], room, last=end == length)
        pieces += room
    assert pieces == sealed_body(length)


@given(st.integers(0, FRAME_PLAIN))
def test_a_body_of_one_frame_is_sealed_as_by_a_sealer(length: int) -> None:
    assert seal_whole(KEY, BODY, PLAIN[:length]) == sealed_body(length)


def test_more_than_one_frame_is_not_sealed_as_one() -> None:
    with pytest.raises(ValueError, match="one frame"):
        seal_whole(KEY, BODY, PLAIN[: FRAME_PLAIN + 1])
    with pytest.raises(ValueError, match="id"):
        seal_whole(KEY, BODY[:15], b"")
    with pytest.raises(ValueError, match="key"):
        seal_whole(KEY[:31], BODY, b"")


@settings(max_examples=30)
@given(edges, st.lists(st.integers(0, 4 * FRAME_SEALED), max_size=6))
def test_scattered_buffers_open_like_one(length: int, cuts: list[int]) -> None:
    sealed = memoryview(sealed_body(length))
    bounds = [0, *sorted(min(cut, len(sealed)) for cut in cuts), len(sealed)]
    parts = [sealed[a:b] for a, b in itertools.pairwise(bounds)]
    out = bytearray(length)
    assert BodyOpener(KEY, BODY, length).open_scattered(0, parts, out) == length
    assert out == PLAIN[:length]


LENGTH = 3 * FRAME_PLAIN + 100


@given(edges)
def test_each_frame_opens_alone(length: int) -> None:
    sealed = sealed_body(length)
    frames = [sealed[start : start + FRAME_SEALED] for start in range(0, len(sealed), FRAME_SEALED)]
    opened = [open_frame(KEY, BODY, length, number, frame) for number, frame in enumerate(frames)]
    assert b"".join(opened) == PLAIN[:length]
    for number, frame in ((len(frames), frames[-1]), (-1, frames[0]), (len(frames), bytes(TAG))):
        with pytest.raises(DamagedFrame):
            open_frame(KEY, BODY, length, number, frame)


@pytest.mark.parametrize("number", [0, 3])
def test_a_single_frame_that_was_changed_is_refused_and_named(number: int) -> None:
    start = number * FRAME_SEALED
    frame = sealed_body(LENGTH)[start : start + FRAME_SEALED]
    swapped = sealed_body(LENGTH, body=bytes(16))[start : start + FRAME_SEALED]
    for wrong in (frame[:-1], frame + b"\0", bytes([frame[0] ^ 1]) + frame[1:], swapped, b""):
        with pytest.raises(DamagedFrame) as caught:
            open_frame(KEY, BODY, LENGTH, number, wrong)
        assert (caught.value.body_id, caught.value.frame) == (BODY, number)
    with pytest.raises(DamagedFrame):  # the last frame of a shorter body, or none of a longer one's last
        open_frame(KEY, BODY, LENGTH + (FRAME_PLAIN if number else 1 - LENGTH), number, frame)


@settings(max_examples=60)
@given(st.integers(0, sealed_length(LENGTH) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_refused_and_its_frame_named(position: int, flip: int) -> None:
    sealed = sealed_body(LENGTH)
    sealed[position] ^= flip
    with pytest.raises(DamagedFrame) as caught:
        BodyOpener(KEY, BODY, LENGTH).open(0, sealed, bytearray(LENGTH))
    assert (caught.value.body_id, caught.value.frame) == (BODY, position // FRAME_SEALED)
    assert BODY.hex() in str(caught.value)
    assert f"frame {position // FRAME_SEALED} " in str(caught.value)


def frame(sealed: bytearray, number: int) -> bytearray:
    return sealed[number * FRAME_SEALED : (number + 1) * FRAME_SEALED]


@pytest.mark.parametrize(("a", "b"), [(0, 1), (0, 2), (1, 2)])
def test_swapped_frames_are_refused(a: int, b: int) -> None:
    sealed = sealed_body(LENGTH)
    parts = [frame(sealed, i) for i in range(4)]
    parts[a], parts[b] = parts[b], parts[a]
    with pytest.raises(DamagedFrame) as caught:
        BodyOpener(KEY, BODY, LENGTH).open(0, b"".join(parts), bytearray(LENGTH))
    assert caught.value.frame == a


def test_a_frame_of_another_body_under_the_same_key_is_refused() -> None:
    sealed, other = sealed_body(LENGTH), sealed_body(LENGTH, bytes(16))
    sealed[FRAME_SEALED : 2 * FRAME_SEALED] = frame(other, 1)
    with pytest.raises(DamagedFrame) as caught:
        BodyOpener(KEY, BODY, LENGTH).open(0, sealed, bytearray(LENGTH))
    assert caught.value.frame == 1


def test_a_frame_replayed_at_a_later_place_is_refused() -> None:
    sealed = sealed_body(LENGTH)
    with pytest.raises(DamagedFrame) as caught:
        BodyOpener(KEY, BODY, LENGTH).open(2, frame(sealed, 1), bytearray(FRAME_PLAIN))
    assert caught.value.frame == 2


def test_a_body_cut_at_a_frame_does_not_pass_for_a_shorter_one() -> None:
    sealed = sealed_body(LENGTH)
    shorter = 2 * FRAME_PLAIN
    with pytest.raises(DamagedFrame) as caught:
        BodyOpener(KEY, BODY, shorter).open(0, sealed[: sealed_length(shorter)], bytearray(shorter))
    assert caught.value.frame == 1


def test_a_last_frame_does_not_pass_for_an_inner_one() -> None:
    shorter = 2 * FRAME_PLAIN
    sealed = sealed_body(shorter)
    with pytest.raises(DamagedFrame) as caught:
        BodyOpener(KEY, BODY, LENGTH).open(0, sealed, bytearray(shorter))
    assert caught.value.frame == 1


@pytest.mark.parametrize(
    ("length", "cut", "named"),
    [(LENGTH, 1, 3), (LENGTH, 117, 2), (LENGTH, 101, 3), (0, 1, 0), (0, 16, 0), (FRAME_PLAIN, 5, 0)],
)
def test_truncation_is_refused_and_named(length: int, cut: int, named: int) -> None:
    sealed = memoryview(sealed_body(length))
    with pytest.raises(DamagedFrame) as caught:
        BodyOpener(KEY, BODY, length).open(0, sealed[: len(sealed) - cut], bytearray(length))
    assert caught.value.frame == named


def test_frames_left_out_at_the_end_are_not_made_up() -> None:
    whole = 3 * FRAME_SEALED
    assert BodyOpener(KEY, BODY, LENGTH).open(0, sealed_body(LENGTH)[:whole], bytearray(LENGTH)) == 3 * FRAME_PLAIN


def test_bytes_behind_the_last_frame_are_refused() -> None:
    with pytest.raises(DamagedFrame):
        BodyOpener(KEY, BODY, LENGTH).open(0, sealed_body(LENGTH) + b"x", bytearray(LENGTH))


def test_another_key_is_refused() -> None:
    with pytest.raises(DamagedFrame):
        BodyOpener(bytes(32), BODY, LENGTH).open(0, sealed_body(LENGTH), bytearray(LENGTH))


def test_an_empty_body_is_one_sealed_frame() -> None:
    sealed = sealed_body(0)
    assert len(sealed) == TAG
    assert BodyOpener(KEY, BODY, 0).open(0, sealed, bytearray(0)) == 0
    sealed[3] ^= 1
    with pytest.raises(DamagedFrame):
        BodyOpener(KEY, BODY, 0).open(0, sealed, bytearray(0))


@pytest.mark.parametrize(
    ("first", "length", "room", "last"),
    [(0, 100, 1000, False), (0, 0, 16, False), (1, 0, 16, True), (0, 100, 115, True), (0, FRAME_PLAIN, 65_551, False)],
)
def test_misuse_of_the_sealer_is_refused(first: int, length: int, room: int, last: bool) -> None:
    with pytest.raises(ValueError):
        BodySealer(KEY, BODY).seal(first, bytes(length), bytearray(room), last=last)


def test_too_little_room_to_open_is_refused() -> None:
    with pytest.raises(ValueError, match="room"):
        BodyOpener(KEY, BODY, LENGTH).open(0, sealed_body(LENGTH), bytearray(LENGTH - 1))


@pytest.mark.parametrize(("key", "body"), [(bytes(16), BODY), (KEY, bytes(15)), (bytes(33), BODY)])
def test_keys_and_ids_of_other_lengths_are_refused(key: bytes, body: bytes) -> None:
    with pytest.raises(ValueError):
        BodySealer(key, body)
    with pytest.raises(ValueError):
        BodyOpener(key, body, 5)
