"""Reading with proof: every shard checked against its piece's footer, every footer against the catalog. Without a key.

This is how damage is named, how reads recover from it, and what repair, recoding, compaction and scrub stand on.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass

from backends.errors import BackendError, NotFound, Unreadable
from core.buffers import Buffer
from engine.errors import Damaged, Unavailable
from engine.segments.fetch import Moved, ReadTools, Truncated
from engine.segments.registry import Segment
from erasure.errors import DamagedFooter, DamagedShard, FutureFormat
from erasure.footer import Footer, check_footer, verify_shard

#: A piece up to this size is read in one call, footer and all.
_WHOLE = 256 << 10
#: Hashing of less than this runs on the event loop.
_INLINE_HASH = 64 << 10
#: Combinations of unproven shards that a last attempt tries.
_MAX_COMBINATIONS = 64


@dataclass(frozen=True, slots=True)
class Finding:
    """Damage, proven: `stripe` is 0 for a whole piece."""

    index: int
    stripe: int
    kind: str  # "shard", "footer", "missing"


class VerifiedSegment:
    """One segment read with proof. Keeps its footers, so make a new one for each job."""

    def __init__(self, tools: ReadTools, segment: Segment, *, report: bool = True) -> None:
        self._tools = tools
        self._report = report  # False for those who act on the findings themselves
        self.segment = segment
        self._footers: dict[int, Footer] = {}
        self._whole: dict[int, memoryview] = {}  # small pieces, read in one call
        self._bad: set[int] = set()  # pieces whose footer can't be had or proven
        self.findings: set[Finding] = set()
        self.moved = False

    async def footer(self, index: int) -> Footer | None:
        """The proven footer of a piece, or None (a finding tells why, unless the node did not answer)."""
        if index in self._footers:
            return self._footers[index]
        segment, shape = self.segment, self.segment.shape
        if index in self._bad or not segment.piece(index).node:
            return None
        try:
            start = 0 if shape.piece_size <= _WHOLE else shape.shards_size
            data = memoryview(await self._tools.fetch(segment, index, start, shape.piece_size, report=False))
            if not start:
                self._whole[index] = data
            footer = check_footer(
                data[-shape.footer_size :],
                segment_id=segment.id,
                index=index,
                shape=shape,
                digest=segment.piece(index).digest,
            )
        except NotFound:
            self._find(index, 0, "missing")
            self.moved = True
            self._bad.add(index)
            return None
        except (Truncated, Unreadable, DamagedFooter, FutureFormat):
            self._tools.counters.footer_failures += 1
            self._find(index, 0, "footer")
            self._bad.add(index)
            return None
        except (BackendError, OSError, TimeoutError):
            self._bad.add(index)
            return None
        self._footers[index] = footer
        return footer

    def _find(self, index: int, stripe: int, kind: str) -> None:
        self.findings.add(Finding(index, stripe, kind))
        if self._report:
            self._tools.report(self.segment, index, (stripe,))

    async def shard(self, index: int, stripe: int) -> Buffer | None:
        """One proven shard, or None."""
        footer = await self.footer(index)
        if footer is None:
            return None
        data = await self.unproven(index, stripe)
        if data is None:
            return None
        try:
            if len(data) <= _INLINE_HASH:
                verify_shard(footer, stripe, data)
            else:
                await asyncio.get_running_loop().run_in_executor(self._tools.pool, verify_shard, footer, stripe, data)
        except DamagedShard:
            self._tools.counters.shard_mismatches += 1
            self._find(index, stripe, "shard")
            return None
        return data

    async def unproven(self, index: int, stripe: int) -> Buffer | None:
        """One shard as it is on its node, or None when it can't be had."""
        shape = self.segment.shape
        start = shape.shard_offset(stripe)
        if index in self._whole:
            return self._whole[index][start : start + shape.shard_length(stripe)]
        try:
            end = start + shape.shard_length(stripe)
            data = await self._tools.fetch(self.segment, index, start, end, report=False)
        except NotFound:
            self._find(index, 0, "missing")
            self.moved = True
            return None
        except (Truncated, Unreadable):
            self._find(index, stripe, "shard")
            return None
        except (BackendError, OSError, TimeoutError):
            return None
        return data

    def order(self, stripe: int) -> list[int]:
        """Pieces in the order to ask: usable data, usable parity, then the rest."""
        segment = self.segment
        written = [index for index in range(segment.scheme.n) if segment.piece(index).node]
        return sorted(written, key=lambda i: (not self._tools.usable(segment, i, range(stripe, stripe + 1)), i))

    async def shards(self, stripe: int, *, skip: frozenset[int] = frozenset()) -> dict[int, Buffer]:
        """Exactly k proven shards of a stripe, of pieces not in `skip`. Raises Unavailable (Moved) or Damaged."""
        k = self.segment.scheme.k
        found: dict[int, Buffer] = {}
        rest = [index for index in self.order(stripe) if index not in skip]
        while len(found) < k and rest:
            batch, rest = rest[: k - len(found)], rest[k - len(found) :]
            for index, data in zip(
                batch, await asyncio.gather(*(self.shard(index, stripe) for index in batch)), strict=True
            ):
                if data is not None:
                    found[index] = data
        if len(found) < k:
            raise self.failure(len(found))
        return found

    def failure(self, have: int) -> Unavailable | Damaged:
        text = f"{have} sound shards of a stripe, {self.segment.scheme.k} are needed"
        if any(finding.kind != "missing" for finding in self.findings):
            return Damaged(text)
        return Moved(text) if self.moved else Unavailable(text)

    async def data_shards(self, have: dict[int, Buffer]) -> list[Buffer]:
        """The k data shards of a stripe from any k shards."""
        scheme = self.segment.scheme
        size = len(next(iter(have.values())))
        want = {index: bytearray(size) for index in range(scheme.k) if index not in have}
        if want:
            self._tools.counters.decodes += 1
            await asyncio.get_running_loop().run_in_executor(
                self._tools.pool, self._tools.codec.reconstruct, scheme, have, want
            )
        return [have[index] if index in have else want[index] for index in range(scheme.k)]

    async def sealed_stripe(self, stripe: int) -> list[memoryview]:
        """A stripe's sealed bytes (without padding), proven, in order."""
        return self._trim(stripe, await self.data_shards(await self.shards(stripe)))

    def _trim(self, stripe: int, shards: list[Buffer]) -> list[memoryview]:
        left = self.segment.shape.stripe_length(stripe)
        parts = []
        for shard in shards:
            part = memoryview(shard)[: max(0, left)]
            left -= part.nbytes
            if part.nbytes:
                parts.append(part)
        return parts

    async def candidates(self, stripe: int) -> AsyncIterator[list[memoryview]]:
        """What the stripe's sealed bytes may be, best first: proven if k shards are; else every combination of k
        shards of which some have no sound footer, for a caller with a key to try. Raises as `shards` at the end."""
        try:
            proven = await self.shards(stripe)
        except (Unavailable, Damaged) as error:
            reason: Exception = error
        else:
            yield self._trim(stripe, await self.data_shards(proven))
            return
        sound: dict[int, Buffer] = {}
        doubtful: dict[int, Buffer] = {}
        for index in self.order(stripe):
            data = await self.shard(index, stripe)
            if data is not None:
                sound[index] = data
            elif index in self._bad and (data := await self.unproven(index, stripe)) is not None:
                doubtful[index] = data
        need = self.segment.scheme.k - len(sound)
        for chosen in itertools.islice(itertools.combinations(doubtful, max(0, need)), _MAX_COMBINATIONS):
            have = {**dict(list(sound.items())[: self.segment.scheme.k]), **{i: doubtful[i] for i in chosen}}
            yield self._trim(stripe, await self.data_shards(have))
        raise reason
