"""Geometry: how a body's sealed bytes become stripes, shards and pieces. All sizes in bytes.

Spec: docs/formats/object.md, "Stripes" and "Segments".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from erasure.frames import FRAME_PLAIN, FRAME_SEALED

MAX_SHARDS = 32
#: A segment holds at most this many sealed bytes.
MAX_SEGMENT = 64 << 20
#: A segment has at most this many stripes, which bounds what a hostile footer can ask us to read.
MAX_STRIPES = 4096
#: shard_size is stored in 32 bits and a shard never exceeds a segment.
MAX_SHARD_SIZE = MAX_SEGMENT
HASH_SIZE = 32
#: The footer's fixed fields, after the shard hashes (erasure.footer owns their layout).
FOOTER_FIELDS = 53
#: A stripe aims at this many frames: 1 MiB of plaintext.
STRIPE_FRAMES = 16


@dataclass(frozen=True, slots=True)
class Scheme:
    """k data shards + m parity shards. Raises ValueError unless 1 ≤ k, 0 ≤ m and k + m ≤ 32."""

    k: int
    m: int

    def __post_init__(self) -> None:
        if self.k < 1 or self.m < 0 or self.k + self.m > MAX_SHARDS:
            raise ValueError(f"scheme {self.k}+{self.m}: 1 <= k, 0 <= m, k + m <= {MAX_SHARDS}")

    def __str__(self) -> str:
        return f"{self.k}+{self.m}"

    @classmethod
    def parse(cls, text: str) -> Scheme:
        """`"4+2"` → Scheme(4, 2). Raises ValueError."""
        k, plus, m = text.partition("+")
        if not (plus and k.isascii() and k.isdecimal() and m.isascii() and m.isdecimal()):
            raise ValueError(f"not a scheme: {text!r} (expected k+m, such as 4+2)")
        return cls(int(k), int(m))

    @property
    def n(self) -> int:
        """Shards in a stripe, pieces in a segment."""
        return self.k + self.m

    @property
    def frames_per_shard(self) -> int:
        """16 / k to the nearest whole, at least 1, halves up: a stripe is about 1 MiB and whole frames fit shards."""
        return max(1, (2 * STRIPE_FRAMES + self.k) // (2 * self.k))

    @property
    def shard_size(self) -> int:
        """A full stripe's shard in segments of large bodies: whole sealed frames."""
        return self.frames_per_shard * FRAME_SEALED

    @property
    def stripe_frames(self) -> int:
        return self.k * self.frames_per_shard

    @property
    def stripe_size(self) -> int:
        """Sealed bytes in a full stripe."""
        return self.k * self.shard_size

    @property
    def stripe_plain(self) -> int:
        """Plaintext bytes in a full stripe."""
        return self.stripe_frames * FRAME_PLAIN

    @property
    def segment_stripes(self) -> int:
        """Stripes in a full segment: as many as fit 64 MiB of sealed bytes."""
        return MAX_SEGMENT // self.stripe_size

    @property
    def segment_size(self) -> int:
        """Sealed bytes in a full segment."""
        return self.segment_stripes * self.stripe_size

    def shape(self, sealed_length: int, shard_size: int = 0) -> SegmentShape:
        """The shape of a segment of `sealed_length` bytes; `shard_size` 0 means the scheme's own."""
        return SegmentShape(self, shard_size or self.shard_size, sealed_length)

    def shapes(self, sealed_length: int) -> Iterator[SegmentShape]:
        """The shapes of the segments of a body that is written without early ends, in order."""
        while sealed_length:
            part = min(sealed_length, self.segment_size)
            yield self.shape(part)
            sealed_length -= part


class Span(msgspec.Struct, frozen=True, gc=False):
    """A run of sealed bytes inside one data shard: bytes [start, start + length) of shard `index` of `stripe`."""

    stripe: int
    index: int
    start: int
    length: int
    piece_offset: int  # where the run begins in piece `index`


@dataclass(frozen=True, slots=True)
class SegmentShape:
    """Everything that follows from a segment's scheme, shard_size and sealed_length.

    Every stripe but the last is full (k × shard_size). The last one holds the rest in k shards of ⌈rest / k⌉ bytes,
    padded with zeros that are not part of the sealed length. Raises ValueError for what no segment can have.
    """

    scheme: Scheme
    shard_size: int
    sealed_length: int
    #: Sealed bytes in a full stripe, and how many stripes there are: kept, because every read asks.
    stripe_size: int = field(init=False, repr=False, compare=False)
    stripes: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.sealed_length <= MAX_SEGMENT:
            raise ValueError(f"sealed length {self.sealed_length}: 1 to {MAX_SEGMENT}")
        if not 1 <= self.shard_size <= MAX_SHARD_SIZE:
            raise ValueError(f"shard size {self.shard_size}: 1 to {MAX_SHARD_SIZE}")
        stripe_size = self.scheme.k * self.shard_size
        stripes = -(-self.sealed_length // stripe_size)
        if stripes > MAX_STRIPES:
            raise ValueError(f"{stripes} stripes: at most {MAX_STRIPES}")
        object.__setattr__(self, "stripe_size", stripe_size)
        object.__setattr__(self, "stripes", stripes)

    def stripe_length(self, stripe: int) -> int:
        """Sealed bytes in a stripe, without padding. Raises IndexError for a stripe that is not there."""
        if not 0 <= stripe < self.stripes:
            raise IndexError(f"stripe {stripe} of {self.stripes}")
        return min(self.stripe_size, self.sealed_length - stripe * self.stripe_size)

    def shard_length(self, stripe: int) -> int:
        """Bytes in each shard of a stripe. Raises IndexError for a stripe that is not there."""
        if 0 <= stripe < self.stripes - 1:
            return self.shard_size
        return -(-self.stripe_length(stripe) // self.scheme.k)

    def shard_offset(self, stripe: int) -> int:
        """Where a stripe's shard begins in any piece."""
        return stripe * self.shard_size

    @property
    def shards_size(self) -> int:
        """Bytes of shards in a piece; its footer begins here."""
        last = self.stripes - 1
        return last * self.shard_size + self.shard_length(last)

    @property
    def footer_size(self) -> int:
        return self.stripes * HASH_SIZE + FOOTER_FIELDS

    @property
    def piece_size(self) -> int:
        return self.shards_size + self.footer_size

    def stripes_of(self, offset: int, length: int) -> range:
        """The stripes that hold sealed bytes [offset, offset + length). Raises ValueError outside the segment."""
        self._check(offset, length)
        if not length:
            return range(0)
        return range(offset // self.stripe_size, (offset + length - 1) // self.stripe_size + 1)

    def spans(self, offset: int, length: int) -> list[Span]:
        """The runs in data shards that make up sealed bytes [offset, offset + length), in order.

        Raises ValueError when the range is not inside the segment.
        """
        self._check(offset, length)
        spans: list[Span] = []
        end = offset + length
        while offset < end:
            stripe, within = divmod(offset, self.stripe_size)
            shard = self.shard_length(stripe)
            index, start = divmod(within, shard)
            run = min(end - offset, shard - start)
            spans.append(Span(stripe, index, start, run, stripe * self.shard_size + start))
            offset += run
        return spans

    def span(self, offset: int, length: int) -> Span | None:
        """The only run of `spans`, or None where sealed bytes [offset, offset + length) are not one run."""
        stripe = offset // self.stripe_size
        if offset < 0 or length <= 0 or stripe >= self.stripes:
            return None
        shard = self.shard_size if stripe < self.stripes - 1 else self.shard_length(stripe)
        within = offset - stripe * self.stripe_size
        index = within // shard
        start = within - index * shard
        if start + length > shard or offset + length > self.sealed_length:
            return None
        return Span(stripe, index, start, length, stripe * self.shard_size + start)

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.sealed_length:
            raise ValueError(f"range {offset}+{length} of a segment of {self.sealed_length}")
