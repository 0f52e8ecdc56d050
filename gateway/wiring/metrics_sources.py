"""Names the rooms' plain counters as metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.metrics import Sample
from gateway.wiring.catalog_metrics import add_catalog_sources

if TYPE_CHECKING:
    from core.worker_runner import WorkerRunner
    from gateway.wiring.build import Gateway
    from gateway.wiring.rooms import Rooms


def add_serving_sources(rooms: Rooms, runner: WorkerRunner) -> None:
    """Expose what each process of a gateway counts, which adds up; read at scrape time."""
    metrics = rooms.metrics
    metrics.source("atoll_engine_events", "What the data path did", read=lambda: _engine(rooms))
    metrics.source("atoll_backend_calls", "Calls to nodes", read=lambda: _backend(rooms, "calls"))
    metrics.source("atoll_backend_bytes", "Bytes to and from nodes", read=lambda: _backend(rooms, "bytes"))
    metrics.source("atoll_backend_seconds", "Time spent in calls to nodes", read=lambda: _backend(rooms, "seconds"))
    metrics.source("atoll_backend_errors", "Calls to nodes that failed", read=lambda: _backend_errors(rooms))
    metrics.source("atoll_worker_turns", "Turns of background workers", read=lambda: _workers(runner, "turns"))
    metrics.source("atoll_worker_errors", "Failed turns of workers", read=lambda: _workers(runner, "errors"))
    metrics.source("atoll_worker_busy_seconds", "Time in turns", read=lambda: _workers(runner, "busy_seconds"))


def add_sources(gateway: Gateway) -> None:
    """Expose all that a gateway counts and knows; read at scrape time."""
    add_serving_sources(gateway, gateway.runner)
    metrics = gateway.metrics
    metrics.source("atoll_node_up", "1 for a node in service", kind="gauge", read=lambda: _nodes_up(gateway))
    metrics.source("atoll_node_free_bytes", "Room left on a node", kind="gauge", read=lambda: _nodes_free(gateway))
    metrics.source("atoll_node_piece_bytes", "Pieces on a node, as last counted", kind="gauge",
                   read=lambda: _node_pieces(gateway))  # fmt: skip
    snapshots = gateway.snapshots.samples
    metrics.source("atoll_snapshot_lag_seconds", "For how long the oldest change waits for a snapshot", kind="gauge",
                   read=lambda: snapshots("lag"))  # fmt: skip
    metrics.source("atoll_snapshot_sequence", "Commits up to this are in a snapshot", kind="gauge",
                   read=lambda: snapshots("sequence"))  # fmt: skip
    metrics.source("atoll_snapshot_bytes", "Bytes on nodes of the snapshot that a restore would take", kind="gauge",
                   read=lambda: snapshots("bytes"))  # fmt: skip
    metrics.source("atoll_snapshot_parts", "Parts that a restore would read", kind="gauge",
                   read=lambda: snapshots("parts"))  # fmt: skip
    metrics.source(
        "atoll_catalog_sequence",
        "Newest durable commit",
        kind="gauge",
        read=lambda: [({}, gateway.catalog.known_sequence)],
    )
    add_catalog_sources(metrics, gateway.catalog)


def _engine(rooms: Rooms) -> list[Sample]:
    return [({"event": name}, count) for name, count in rooms.bodies.counters.snapshot().items()]


def _nodes_up(gateway: Gateway) -> list[Sample]:
    return [({"node": node.name}, float(gateway.placer.is_up(node.id))) for node in gateway.placer.nodes()]


def _nodes_free(gateway: Gateway) -> list[Sample]:
    return [({"node": node.name}, gateway.placer.free(node.id)) for node in gateway.placer.nodes()]


def _node_pieces(gateway: Gateway) -> list[Sample]:
    counted = gateway.tally.pieces
    if counted is None:
        return []
    return [({"node": node.name}, float(counted.get(node.id, (0, 0))[1])) for node in gateway.placer.nodes()]


def _backend(rooms: Rooms, figure: str) -> list[Sample]:
    return [
        ({"node": node, "operation": operation}, getattr(meter, figure))
        for node, backend in rooms.nodes.meters.items()
        for operation, meter in backend.snapshot().items()
    ]


def _backend_errors(rooms: Rooms) -> list[Sample]:
    return [
        ({"node": node, "operation": operation, "error": error}, count)
        for node, backend in rooms.nodes.meters.items()
        for operation, meter in backend.snapshot().items()
        for error, count in meter.errors.items()
    ]


def _workers(runner: WorkerRunner, figure: str) -> list[Sample]:
    return [({"worker": name}, getattr(running, figure)) for name, running in runner.workers().items()]
