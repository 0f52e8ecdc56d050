"""The worker that looks at nodes: down ones that may be back, capacities that are old."""

from __future__ import annotations

from core.workers import WorkerReport, WorkerState
from engine.placement import LocalPlacer


class NodeProbe:
    """Calls the placer's probe; a node whose folder returned comes up within the interval and the probe's own pause."""

    name = "node-probe"
    interval = 1.0

    def __init__(self, placer: LocalPlacer) -> None:
        self._placer = placer
        self._returned = 0

    async def turn(self) -> WorkerState:
        self._returned += await self._placer.probe()
        return WorkerState.IDLE

    def report(self) -> WorkerReport:
        nodes = self._placer.nodes()
        up = sum(self._placer.is_up(node.id) for node in nodes)
        return WorkerReport(progress=f"{up} of {len(nodes)} up", counters={"returned": self._returned})
