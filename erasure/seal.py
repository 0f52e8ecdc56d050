"""Sealing: AES-256-GCM, frame by frame, from buffer to buffer without copies. Spec: docs/formats/object.md, "Seal".

The work runs in C with the GIL released; call it from a worker thread, a stripe at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.buffers import Buffer
from core.ids import ID_LENGTH
from erasure.errors import DamagedFrame
from erasure.frames import FRAME_PLAIN, FRAME_SEALED, TAG, frame_count, sealed_length
from erasure.keys import KEY_LENGTH

SEAL_FORMAT = 1

_NONCE = struct.Struct(">4xQ")
_ASSOCIATED = struct.Struct(">B16sQ?")


def seal_frames(aead: AESGCM, body_id: bytes, first_frame: int, plaintext: Buffer, out: Buffer, *, last: bool) -> int:
    """Seal `plaintext` as frames `first_frame`, `first_frame` + 1, ... into the front of `out`; returns bytes written.

    Every frame is full except that the last frame of a body (`last`) may be shorter; an empty body is one empty last
    frame. Raises ValueError when the lengths don't allow that or `out` (writable) is too small.
    """
    source = memoryview(plaintext).cast("B")
    target = memoryview(out).cast("B")
    length = source.nbytes
    if not last and length % FRAME_PLAIN:
        raise ValueError(f"{length} plaintext bytes are not whole frames, and the body goes on")
    if not length and not (last and first_frame == 0):
        raise ValueError("only an empty body has an empty frame")
    sealed = sealed_length(length)
    if target.nbytes < sealed:
        raise ValueError(f"{target.nbytes} bytes of room for {sealed} sealed bytes")
    frames = frame_count(length)
    for i in range(frames):
        number = first_frame + i
        start, place = i * FRAME_PLAIN, i * FRAME_SEALED
        end = min(start + FRAME_PLAIN, length)
        aead.encrypt_into(
            _NONCE.pack(number),
            source[start:end],
            _ASSOCIATED.pack(SEAL_FORMAT, body_id, number, last and i == frames - 1),
            target[place : place + end - start + TAG],
        )
    return sealed


def open_frames(aead: AESGCM, body_id: bytes, first_frame: int, sealed: Buffer, out: Buffer, *, last: bool) -> int:
    """Open the sealed frames `first_frame`, ... into the front of `out`; returns plaintext bytes written.

    `last` says that the final one is the body's last frame; only that one may be short. Raises DamagedFrame naming the
    first frame that does not open (what `out` then holds is not to be used), ValueError when `out` is too small.
    """
    return open_scattered(aead, body_id, first_frame, (sealed,), out, last=last)


def open_scattered(
    aead: AESGCM, body_id: bytes, first_frame: int, parts: Sequence[Buffer], out: Buffer, *, last: bool
) -> int:
    """As `open_frames`, for sealed bytes that lie in several buffers one after the other, such as a stripe's shards.

    Only a frame that spans buffers is copied.
    """
    target = memoryview(out).cast("B")
    views = [memoryview(part).cast("B") for part in parts]
    total = sum(view.nbytes for view in views)
    frames = -(-total // FRAME_SEALED)
    written = total - TAG * frames
    if not last and total % FRAME_SEALED:
        raise DamagedFrame(body_id, first_frame + frames - 1, f"cut to {total % FRAME_SEALED} bytes")
    if last and (not frames or total - (frames - 1) * FRAME_SEALED < TAG):
        raise DamagedFrame(body_id, first_frame + max(0, frames - 1), "cut short of its tag")
    if target.nbytes < written:
        raise ValueError(f"{target.nbytes} bytes of room for {written} plaintext bytes")
    part = position = 0
    for i in range(frames):
        number = first_frame + i
        size = min(FRAME_SEALED, total - i * FRAME_SEALED)
        while position == views[part].nbytes:
            part, position = part + 1, 0
        frame: Buffer
        if position + size <= views[part].nbytes:
            frame = views[part][position : position + size]
            position += size
        else:
            joined = bytearray()
            while len(joined) < size:
                if position == views[part].nbytes:
                    part, position = part + 1, 0
                piece = views[part][position : position + size - len(joined)]
                joined += piece
                position += piece.nbytes
            frame = joined
        place = i * FRAME_PLAIN
        try:
            aead.decrypt_into(
                _NONCE.pack(number),
                frame,
                _ASSOCIATED.pack(SEAL_FORMAT, body_id, number, last and i == frames - 1),
                target[place : place + size - TAG],
            )
        except InvalidTag:
            raise DamagedFrame(body_id, number) from None
    return written


def open_frame(body_key: Buffer, body_id: bytes, body_length: int, number: int, sealed: Buffer) -> bytes:
    """The plaintext of frame `number` of a body of `body_length` plaintext bytes: what a `BodyOpener` does, for who
    wants no more than this frame. Raises DamagedFrame."""
    left = body_length - number * FRAME_PLAIN
    last = left <= FRAME_PLAIN
    due = (left if last else FRAME_PLAIN) + TAG
    if number < 0 or (number and left <= 0) or len(sealed) != due:
        raise DamagedFrame(body_id, number, f"{len(sealed)} sealed bytes where {due} were due")
    try:
        return AESGCM(body_key).decrypt(
            _NONCE.pack(number), sealed, _ASSOCIATED.pack(SEAL_FORMAT, body_id, number, last)
        )
    except InvalidTag:
        raise DamagedFrame(body_id, number) from None


def seal_whole(body_key: Buffer, body_id: bytes, plaintext: bytes) -> bytes:
    """A body of at most one frame: what a `BodySealer` does, for who has all of it. Raises ValueError."""
    _check(body_key, body_id)
    if len(plaintext) > FRAME_PLAIN:
        raise ValueError(f"{len(plaintext)} bytes are more than one frame")
    return AESGCM(body_key).encrypt(_NONCE.pack(0), plaintext, _ASSOCIATED.pack(SEAL_FORMAT, body_id, 0, True))


class BodySealer:
    """Seals one body, a stripe at a time. Stateless between calls, so stripes may be sealed in any thread or order.

    A body id and its key seal one body only, each frame once: the caller makes a fresh id for every attempt.
    """

    __slots__ = ("_aead", "body_id")

    def __init__(self, body_key: Buffer, body_id: bytes) -> None:
        _check(body_key, body_id)
        self._aead = AESGCM(body_key)
        self.body_id = body_id

    def seal(self, first_frame: int, plaintext: Buffer, out: Buffer, *, last: bool) -> int:
        """`seal_frames` for this body."""
        return seal_frames(self._aead, self.body_id, first_frame, plaintext, out, last=last)


class BodyOpener:
    """Opens frames of one body of `length` plaintext bytes, in any order and from any thread."""

    __slots__ = ("_aead", "_frames", "body_id", "length")

    def __init__(self, body_key: Buffer, body_id: bytes, length: int) -> None:
        _check(body_key, body_id)
        self._aead = AESGCM(body_key)
        self._frames = frame_count(length)
        self.body_id = body_id
        self.length = length

    def open(self, first_frame: int, sealed: Buffer, out: Buffer) -> int:
        """Open whole frames `first_frame`, ... into the front of `out`; returns plaintext bytes written.

        Raises DamagedFrame for the first frame that does not open or has not the length that the body gives it.
        """
        return self.open_scattered(first_frame, (sealed,), out)

    def open_scattered(self, first_frame: int, parts: Sequence[Buffer], out: Buffer) -> int:
        """As `open`, for sealed bytes that lie in several buffers one after the other, such as a stripe's shards."""
        total = sum(memoryview(part).nbytes for part in parts)
        if not total and self.length:
            return 0
        if not total:
            raise DamagedFrame(self.body_id, first_frame, "missing")
        end = first_frame + -(-total // FRAME_SEALED)
        last = end == self._frames
        expected = min(end * FRAME_PLAIN, self.length) - first_frame * FRAME_PLAIN + TAG * (end - first_frame)
        if end > self._frames or total != expected:
            raise DamagedFrame(self.body_id, end - 1, f"{total} sealed bytes end here where {expected} were due")
        return open_scattered(self._aead, self.body_id, first_frame, parts, out, last=last)


def _check(body_key: Buffer, body_id: bytes) -> None:
    if len(body_key) != KEY_LENGTH:
        raise ValueError(f"a body key has {KEY_LENGTH} bytes")
    if len(body_id) != ID_LENGTH:
        raise ValueError(f"a body id has {ID_LENGTH} bytes")
