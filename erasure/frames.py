"""Arithmetic of sealed frames: sizes, and which frames hold a plaintext range. Spec: docs/formats/object.md, "Seal"."""

from __future__ import annotations

import msgspec

FRAME_PLAIN = 65_536
TAG = 16
FRAME_SEALED = FRAME_PLAIN + TAG


def frame_count(plain_length: int) -> int:
    """Frames of a body: at least one, since an empty body is one empty frame."""
    if plain_length < 0:
        raise ValueError(f"plaintext length {plain_length}")
    return max(1, -(-plain_length // FRAME_PLAIN))


def sealed_length(plain_length: int) -> int:
    """Sealed bytes of a body of `plain_length` plaintext bytes."""
    return plain_length + TAG * frame_count(plain_length)


def plain_length(sealed: int) -> int:
    """Plaintext bytes of a body of `sealed` sealed bytes. Raises ValueError for a length that no body has."""
    frames = -(-sealed // FRAME_SEALED)
    plain = sealed - TAG * frames
    if sealed < TAG or sealed_length(plain) != sealed:
        raise ValueError(f"no body has {sealed} sealed bytes")
    return plain


class FrameRange(msgspec.Struct, frozen=True, gc=False):
    """The frames that hold a plaintext range, and where they lie in the body's sealed bytes."""

    first: int  # number of the first frame
    count: int
    sealed_offset: int
    sealed_length: int
    plain_length: int  # plaintext in all these frames
    skip: int  # plaintext bytes before the range in the first frame


def frames_of(offset: int, length: int, body_length: int) -> FrameRange:
    """The frames holding plaintext [offset, offset + length) of a body of `body_length` plaintext bytes.

    An empty range takes no frames, except that of an empty body, whose only frame still proves that it is empty.
    Raises ValueError when the range is not inside the body.
    """
    if offset < 0 or length < 0 or offset + length > body_length:
        raise ValueError(f"range {offset}+{length} of a body of {body_length}")
    if not body_length:
        return FrameRange(0, 1, 0, TAG, 0, 0)
    if not length:
        return FrameRange(offset // FRAME_PLAIN, 0, 0, 0, 0, 0)
    first = offset // FRAME_PLAIN
    end = -(-(offset + length) // FRAME_PLAIN)
    plain = min(end * FRAME_PLAIN, body_length) - first * FRAME_PLAIN
    count = end - first
    return FrameRange(first, count, first * FRAME_SEALED, plain + TAG * count, plain, offset - first * FRAME_PLAIN)
