"""ISA-L through PyECLib's interface, where its shared library can't be reached: the same bytes, with copies.

liberasurecode puts an 80-byte header before every fragment and wants it back to decode. Headers don't depend on the
data, so ours are made once for each scheme and length and never stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from pyeclib.ec_iface import ECDriver, ECDriverError

from core.buffers import Buffer
from erasure.codec import Codec, choose, common_length
from erasure.errors import CodecError
from erasure.scheme import Scheme

_HEADER = 80
_BACKEND = "isa_l_rs_cauchy"


class LiberasurecodeCodec(Codec):
    """Holds the GIL while it codes. Raises CodecError when liberasurecode has no ISA-L."""

    name = "liberasurecode"

    def __init__(self) -> None:
        self._driver = lru_cache(64)(_driver)
        self._headers = lru_cache(64)(self._make_headers)
        self._driver(Scheme(1, 1))

    def encode(self, scheme: Scheme, data: Sequence[Buffer], parity: Sequence[Buffer]) -> None:
        if len(data) != scheme.k or len(parity) != scheme.m:
            raise ValueError(f"{len(data)} data and {len(parity)} parity buffers for {scheme}")
        length = common_length([*data, *parity])
        if not (scheme.m and length):
            return
        fragments = self._fragments(scheme, b"".join(data), length)
        for target, fragment in zip(parity, fragments[scheme.k :], strict=True):
            memoryview(target).cast("B")[:] = memoryview(fragment)[_HEADER:]

    def reconstruct(self, scheme: Scheme, have: Mapping[int, Buffer], want: Mapping[int, Buffer]) -> None:
        used, wanted = choose(scheme, have, want)
        length = common_length([*have.values(), *want.values()])
        if not (wanted and length):
            return
        headers = self._headers(scheme, length)
        fragments = [headers[index] + bytes(have[index]) for index in used]
        try:
            made = self._driver(scheme).reconstruct(fragments, list(wanted))
        except ECDriverError as error:
            raise CodecError(f"liberasurecode: {error}") from error
        for index, fragment in zip(wanted, made, strict=True):
            memoryview(want[index]).cast("B")[:] = memoryview(fragment)[_HEADER:]

    def _fragments(self, scheme: Scheme, data: bytes, length: int) -> list[bytes]:
        try:
            fragments: list[bytes] = self._driver(scheme).encode(data)
        except ECDriverError as error:
            raise CodecError(f"liberasurecode: {error}") from error
        if {len(fragment) for fragment in fragments} != {_HEADER + length}:
            raise CodecError(f"liberasurecode: fragments of a length other than {length}")
        return fragments

    def _make_headers(self, scheme: Scheme, length: int) -> tuple[bytes, ...]:
        return tuple(f[:_HEADER] for f in self._fragments(scheme, bytes(scheme.k * length), length))


def _driver(scheme: Scheme) -> ECDriver:
    try:
        return ECDriver(k=scheme.k, m=scheme.m, ec_type=_BACKEND)
    except (ECDriverError, OSError) as error:
        raise CodecError(f"liberasurecode: {error}") from error
