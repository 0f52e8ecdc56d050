"""Damage that was proven: rows per (segment, piece, stripe), and the worker that proves what readers report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from catalog.interface import Reader, Transaction
from core.clock import Clock
from core.workers import WorkerReport, WorkerState
from engine.bodies.store import BodyStore
from engine.layout_data import SEGMENT, SUSPECT, parse_suspect_key, prefix_end, suspect_key
from engine.records_data import SEGMENT_ROW, SUSPECT_ROW, SuspectRow
from engine.segments.proof import Finding, VerifiedSegment
from engine.segments.reports import Report

_BATCH = 32
#: Seconds between looks at what other gateways suspect at least, and in proportion to what a look took.
_LOOK_AROUND = 5.0
_SHARE = 50


class Prober(Protocol):
    """A placer that looks after its nodes' health."""

    async def probe(self, *, force: bool = False) -> int: ...


async def record_findings(
    bodies: BodyStore, segment_id: bytes, generation: int, findings: Iterable[Finding], now_us: int
) -> int:
    """Write suspicions, unless the placement they were found on is no more; returns how many are new."""
    wanted = sorted(set(findings), key=lambda finding: (finding.index, finding.stripe))

    async def put(txn: Transaction) -> Sequence[Finding]:
        data = await txn.get(SEGMENT + segment_id)
        if data is None or SEGMENT_ROW.decode(data).generation != generation:
            return []
        new = []
        for finding in wanted:
            key = suspect_key(segment_id, finding.index, finding.stripe)
            if await txn.get(key) is None:
                new.append(finding)
                txn.put(key, SUSPECT_ROW.encode(SuspectRow(generation=generation, kind=finding.kind, seen_us=now_us)))
        return new

    new = await bodies.catalog.transact(put) if wanted else []
    for finding in new:
        bodies.registry.suspect(segment_id, finding.index, finding.stripe)
    bodies.counters.suspicions += len(new)
    return len(new)


async def suspicions(reader: Reader, *, after: bytes = b"", limit: int = 1000) -> list[tuple[bytes, int, int, str]]:
    """A page of (segment id, piece index, stripe, kind), in order, of segments after `after`: for `status`."""
    start = SUSPECT + after + b"\xff" * 6 if after else SUSPECT
    rows = await reader.scan(start, prefix_end(SUSPECT), limit=limit)
    return [(*parse_suspect_key(key), SUSPECT_ROW.decode(value).kind) for key, value in rows]


class HealthWorker:
    """Looks after nodes, and turns reports into proven suspicions or drops them. Named `health`."""

    name = "health"
    interval = 2.0

    def __init__(self, bodies: BodyStore, prober: Prober, clock: Clock) -> None:
        self._bodies, self._prober, self._clock = bodies, prober, clock
        self._look_at = clock.monotonic() + _LOOK_AROUND  # what was known at the start, the store has loaded

    async def turn(self) -> WorkerState:
        await self._prober.probe()
        if not self._bodies.catalog.exclusive:
            await self._look_around()
        reports = self._bodies.reports.take(_BATCH)
        by_segment: dict[bytes, list[Report]] = {}
        for report in reports:
            by_segment.setdefault(report.segment_id, []).append(report)
        for segment_id, group in by_segment.items():
            await self._prove(segment_id, group)
        return WorkerState.BUSY if len(self._bodies.reports) else WorkerState.IDLE

    async def _look_around(self) -> None:
        """Learn what other gateways suspect, and what they have repaired."""
        began = self._clock.monotonic()
        if began >= self._look_at:
            await self._bodies.registry.load_suspects()
            ended = self._clock.monotonic()
            self._look_at = ended + max(_LOOK_AROUND, _SHARE * (ended - began))

    async def _prove(self, segment_id: bytes, group: Sequence[Report]) -> None:
        segment = await self._bodies.registry.get(segment_id, fresh=True)
        found: set[Finding] = set()
        if segment is not None:
            verified = VerifiedSegment(self._bodies.read_tools, segment, report=False)
            for report in group:
                if report.generation == segment.row.generation and report.index < segment.scheme.n:
                    if report.stripe < segment.shape.stripes:
                        await verified.shard(report.index, report.stripe)
                    else:
                        await verified.footer(report.index)
            found = verified.findings
            await record_findings(self._bodies, segment_id, segment.row.generation, found, self._clock.now_us())
        accused = {finding.index for finding in found}
        self._bodies.counters.acquittals += sum(report.index not in accused for report in group)

    def report(self) -> WorkerReport:
        counters = self._bodies.counters
        return WorkerReport(
            WorkerState.BUSY if len(self._bodies.reports) else WorkerState.IDLE,
            f"{len(self._bodies.reports)} reports open",
            {"reports": counters.reports, "suspicions": counters.suspicions, "acquittals": counters.acquittals},
        )
