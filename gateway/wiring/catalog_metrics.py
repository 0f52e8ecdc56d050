"""Figures of a catalog that gateways share; one in the data folder has none of them."""

from __future__ import annotations

from dataclasses import asdict

from catalog.interface import Catalog
from catalog.postgres_engine.catalog import PostgresCatalog
from core.metrics import Metrics, Sample


def add_catalog_sources(metrics: Metrics, catalog: Catalog) -> None:
    """Expose what the engine of `catalog` counts; read at scrape time."""
    metrics.source("atoll_catalog_events", "What commits to a shared catalog met", read=lambda: _events(catalog))
    metrics.source(
        "atoll_catalog_connections",
        "Connections to the shared catalog's database",
        kind="gauge",
        read=lambda: _connections(catalog),
    )


def _events(catalog: Catalog) -> list[Sample]:
    if not isinstance(catalog, PostgresCatalog):
        return []
    return [({"event": name}, count) for name, count in asdict(catalog.commit_counters).items()]


def _connections(catalog: Catalog) -> list[Sample]:
    if not isinstance(catalog, PostgresCatalog):
        return []
    present, busy = catalog.connections
    return [({"state": "open"}, present), ({"state": "busy"}, busy)]
