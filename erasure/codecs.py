"""Choosing the codec: the fastest on this machine that makes the format's bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from core.buffers import Buffer
from erasure.codec import Codec
from erasure.errors import CodecError
from erasure.isal import IsalCodec
from erasure.liberasurecode import LiberasurecodeCodec
from erasure.portable import PortableCodec
from erasure.scheme import Scheme

_BEST_FIRST: tuple[Callable[[], Codec], ...] = (IsalCodec, LiberasurecodeCodec)


@cache
def default_codec() -> Codec:
    """The process's codec. A library that is missing or makes other bytes than the portable codec is passed over."""
    for make in _BEST_FIRST:
        try:
            codec = make()
            if agrees(codec):
                return codec
        except CodecError:
            continue
    return PortableCodec()


def agrees(codec: Codec) -> bool:
    """Whether a codec makes the portable codec's bytes, both ways, on a small sample of odd length."""
    scheme = Scheme(5, 3)
    data = [bytes((7 * i + j * j) % 256 for j in range(197)) for i in range(scheme.k)]
    ours = [bytearray(197) for _ in range(scheme.m)]
    due = [bytearray(197) for _ in range(scheme.m)]
    codec.encode(scheme, data, ours)
    PortableCodec().encode(scheme, data, due)
    have: dict[int, Buffer] = {0: data[0], 3: data[3], 5: due[0], 6: due[1], 7: due[2]}
    made = {1: bytearray(197), 2: bytearray(197), 4: bytearray(197)}
    codec.reconstruct(scheme, have, made)
    return ours == due and all(made[i] == data[i] for i in made)
