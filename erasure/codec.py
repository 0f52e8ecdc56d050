"""Reed–Solomon: parity from data, and any shard from any k others. Spec: docs/formats/object.md, "Code".

A codec is one function, a matrix–vector product over buffers; everything else is here, once, for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Generic, TypeVar

from core.buffers import Buffer
from erasure.errors import NotEnoughShards
from erasure.matrix import Matrix, decode_rows, parity_rows
from erasure.scheme import Scheme

#: Loss patterns whose matrices are kept. The largest entry is some 8 KiB, so this stays under 4 MiB.
_PATTERNS = 512

Prepared = TypeVar("Prepared")


class Codec(ABC):
    """Codes rows of equally long buffers. Safe to call from several threads; keeps nothing of the buffers."""

    #: For logs and benchmarks.
    name: str

    @abstractmethod
    def encode(self, scheme: Scheme, data: Sequence[Buffer], parity: Sequence[Buffer]) -> None:
        """Fill the m writable `parity` buffers from the k `data` buffers.

        All have one length; any column range may be coded alone. Raises ValueError for other counts or lengths.
        """

    @abstractmethod
    def reconstruct(self, scheme: Scheme, have: Mapping[int, Buffer], want: Mapping[int, Buffer]) -> None:
        """Fill the writable buffers of `want` (shard index → buffer, data or parity) from any k shards of `have`.

        All buffers are the same columns of one stripe and have one length. More than k shards may be given; data
        shards are preferred. Raises NotEnoughShards, ValueError for other indices or lengths.
        """


class MatrixCodec(Codec, Generic[Prepared]):
    """A codec over one product, with its matrices prepared once for each scheme and loss pattern (bounded)."""

    def __init__(self) -> None:
        self._encoder = lru_cache(_PATTERNS)(lambda scheme: self.prepare(scheme.k, parity_rows(scheme)))
        self._decoder = lru_cache(_PATTERNS)(
            lambda scheme, used, wanted: self.prepare(scheme.k, decode_rows(scheme, used, wanted))
        )

    @abstractmethod
    def prepare(self, k: int, rows: Matrix) -> Prepared:
        """Turn a matrix into whatever `product` wants."""

    @abstractmethod
    def product(self, prepared: Prepared, length: int, sources: Sequence[Buffer], targets: Sequence[Buffer]) -> None:
        """targets = matrix × sources, byte by byte. Counts and lengths were checked; length and counts are > 0."""

    def encode(self, scheme: Scheme, data: Sequence[Buffer], parity: Sequence[Buffer]) -> None:
        if len(data) != scheme.k or len(parity) != scheme.m:
            raise ValueError(f"{len(data)} data and {len(parity)} parity buffers for {scheme}")
        length = common_length([*data, *parity])
        if scheme.m and length:
            self.product(self._encoder(scheme), length, data, parity)

    def reconstruct(self, scheme: Scheme, have: Mapping[int, Buffer], want: Mapping[int, Buffer]) -> None:
        used, wanted = choose(scheme, have, want)
        length = common_length([*have.values(), *want.values()])
        if wanted and length:
            prepared = self._decoder(scheme, used, wanted)
            self.product(prepared, length, [have[index] for index in used], [want[index] for index in wanted])


def choose(
    scheme: Scheme, have: Mapping[int, Buffer], want: Mapping[int, Buffer]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which k shards to decode from, and which are wanted, both ascending. Raises NotEnoughShards, ValueError."""
    for index in (*have, *want):
        if not 0 <= index < scheme.n:
            raise ValueError(f"shard {index} of scheme {scheme}")
    if not have.keys().isdisjoint(want):
        raise ValueError("a wanted shard is among those given")
    if len(have) < scheme.k:
        raise NotEnoughShards(len(have), scheme.k)
    return tuple(sorted(have)[: scheme.k]), tuple(sorted(want))


def common_length(buffers: Sequence[Buffer]) -> int:
    """The one length of all buffers, bytes. Raises ValueError when they differ."""
    lengths = {len(b) if isinstance(b, bytes | bytearray) else b.nbytes for b in buffers}
    if len(lengths) != 1:
        raise ValueError(f"buffers of different lengths: {sorted(lengths)}")
    return lengths.pop()
