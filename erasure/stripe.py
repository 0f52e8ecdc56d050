"""One stripe in one buffer: seal, pad, code and hash, without copies. Spec: docs/formats/object.md, "Stripes"."""

from __future__ import annotations

from dataclasses import dataclass

from core.buffers import Buffer
from erasure.codec import Codec
from erasure.footer import shard_hash
from erasure.scheme import Scheme
from erasure.seal import BodySealer


@dataclass(frozen=True, slots=True)
class Stripe:
    """A coded stripe. `shards` are n views of the caller's buffer, data first; valid until it is used again."""

    sealed_length: int  # without padding
    shards: tuple[memoryview, ...]
    hashes: tuple[bytes, ...]


def stripe_room(scheme: Scheme, shard_size: int = 0) -> int:
    """Bytes that a stripe's buffer needs: n shards of the scheme's own size, or of `shard_size`."""
    return scheme.n * (shard_size or scheme.shard_size)


def shards_of(scheme: Scheme, buffer: memoryview, sealed_length: int) -> tuple[memoryview, ...]:
    """The n shards of a stripe of `sealed_length` bytes, lying one after the other from the front of `buffer`."""
    size = -(-sealed_length // scheme.k)
    return tuple(buffer[i * size : (i + 1) * size] for i in range(scheme.n))


def code_stripe(codec: Codec, scheme: Scheme, buffer: memoryview, sealed_length: int) -> Stripe:
    """Code and hash the `sealed_length` sealed bytes at the front of `buffer` (writable, unsigned bytes).

    Padding and parity are written behind them. Raises ValueError when `buffer` is too small or the stripe is empty.
    """
    size = -(-sealed_length // scheme.k)
    if sealed_length < 1 or buffer.nbytes < size * scheme.n:
        raise ValueError(f"{buffer.nbytes} bytes of room for a stripe of {sealed_length} under {scheme}")
    padding = size * scheme.k - sealed_length
    if padding:
        buffer[sealed_length : sealed_length + padding] = bytes(padding)
    shards = shards_of(scheme, buffer, sealed_length)
    codec.encode(scheme, shards[: scheme.k], shards[scheme.k :])
    return Stripe(sealed_length, shards, tuple(map(shard_hash, shards)))


def seal_stripe(
    codec: Codec,
    scheme: Scheme,
    sealer: BodySealer,
    first_frame: int,
    plaintext: Buffer,
    buffer: memoryview,
    *,
    last: bool,
) -> Stripe:
    """Seal up to a stripe of plaintext into `buffer`, then `code_stripe`. One call does all of a thread's work.

    `plaintext` is whole frames unless `last`. Raises ValueError as `seal_frames` and `code_stripe` do.
    """
    return code_stripe(codec, scheme, buffer, sealer.seal(first_frame, plaintext, buffer, last=last))
