"""What this process remembers of segments: rows lately used, and which pieces are suspect."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from catalog.interface import Catalog, Reader
from engine.layout_data import SEGMENT, SUSPECT, parse_suspect_key, prefix_end
from engine.records_data import SEGMENT_ROW, PieceRow, SegmentRow
from erasure.scheme import Scheme, SegmentShape

_SUSPECTS = 5000


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment row with its geometry worked out."""

    id: bytes
    row: SegmentRow
    scheme: Scheme
    shape: SegmentShape

    @classmethod
    def of(cls, segment_id: bytes, row: SegmentRow) -> Segment:
        scheme = Scheme(row.k, row.m)
        return cls(segment_id, row, scheme, SegmentShape(scheme, row.shard_size, row.sealed_length))

    def piece(self, index: int) -> PieceRow:
        return self.row.pieces[index]


class SegmentRegistry:
    """A bounded cache of segment rows over the catalog, and the suspect pieces in memory.

    A cached row may be old. That is safe: piece names are never reused, so an old row leads to the same bytes or to
    *not found*, upon which the reader asks again with `fresh`.
    """

    def __init__(self, catalog: Catalog, *, limit: int = 8192) -> None:
        self._catalog = catalog
        self._limit = limit
        self._rows: OrderedDict[bytes, Segment] = OrderedDict()
        #: What is remembered of a segment id, at once.
        self.cached: Callable[[bytes], Segment | None] = self._rows.get
        #: (piece, stripe) on which damage was proven, by segment id. For looking only.
        self.suspects: dict[bytes, set[tuple[int, int]]] = {}

    async def get(self, segment_id: bytes, *, fresh: bool = False) -> Segment | None:
        """The segment, or None if the catalog has it no more."""
        found = None if fresh else self.cached(segment_id)
        if found is not None:
            return found

        async def load(reader: Reader) -> bytes | None:
            return await reader.get(SEGMENT + segment_id)

        data = await self._catalog.read(load)
        if data is None:
            self._rows.pop(segment_id, None)
            return None
        segment = Segment.of(segment_id, SEGMENT_ROW.decode(data))
        self.put(segment)
        return segment

    def put(self, segment: Segment) -> None:
        self._rows[segment.id] = segment
        if len(self._rows) > self._limit:
            self._rows.popitem(last=False)

    def forget(self, segment_id: bytes) -> None:
        self._rows.pop(segment_id, None)
        self.suspects.pop(segment_id, None)

    # Suspicion

    async def load_suspects(self) -> int:
        """Read every suspicion from the catalog, other gateways' too; returns how many there are."""
        after, end = SUSPECT, prefix_end(SUSPECT)

        async def page(reader: Reader) -> list[tuple[bytes, bytes]]:
            return await reader.scan(after, end, limit=_SUSPECTS, keys_only=True)

        found: dict[bytes, set[tuple[int, int]]] = {}
        count = 0
        while rows := await self._catalog.read(page):
            for key, _ in rows:
                segment_id, index, stripe = parse_suspect_key(key)
                found.setdefault(segment_id, set()).add((index, stripe))
            count += len(rows)
            after = rows[-1][0] + b"\0"
            if len(rows) < _SUSPECTS:
                break
        self.suspects = found
        return count

    def suspect(self, segment_id: bytes, index: int, stripe: int) -> None:
        self.suspects.setdefault(segment_id, set()).add((index, stripe))

    def is_suspect(self, segment_id: bytes, index: int, stripes: range) -> bool:
        """Whether damage was proven on this piece in any of these stripes."""
        marks = self.suspects.get(segment_id)
        return marks is not None and any(i == index and stripe in stripes for i, stripe in marks)

    def suspicions(self, segment_id: bytes) -> frozenset[tuple[int, int]]:
        return frozenset(self.suspects.get(segment_id, ()))

    def clear_suspects(self, segment_id: bytes) -> None:
        self.suspects.pop(segment_id, None)
