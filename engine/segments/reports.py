"""What readers saw and could not prove: a bounded set that the health worker empties."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from engine.counters import EngineCounters


@dataclass(frozen=True, slots=True)
class Report:
    """Something was wrong with one shard of one piece; `generation` is of the placement it was read by."""

    segment_id: bytes
    index: int
    stripe: int
    generation: int


class Reports:
    """Deduplicated and bounded: a reader never waits here, and what does not fit is counted and dropped (the next
    reader of the same damage reports it again)."""

    def __init__(self, counters: EngineCounters, limit: int = 4096) -> None:
        self._counters = counters
        self._limit = limit
        self._open: OrderedDict[Report, None] = OrderedDict()

    def add(self, report: Report) -> None:
        if report in self._open:
            return
        if len(self._open) >= self._limit:
            self._counters.reports_dropped += 1
            return
        self._counters.reports += 1
        self._open[report] = None

    def take(self, limit: int) -> list[Report]:
        return [self._open.popitem(last=False)[0] for _ in range(min(limit, len(self._open)))]

    def __len__(self) -> int:
        return len(self._open)
