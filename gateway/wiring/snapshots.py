"""Snapshots of the catalog as this gateway keeps them: the worker, what status and metrics tell of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from catalog.feed import FeedConsumer
from catalog.interface import Catalog
from core.errors import AtollError
from core.metrics import Sample
from engine.snapshots.chains import RootKeys
from engine.snapshots.freshness import Cover, Covers, Freshness
from engine.snapshots.keys import SnapshotKeys
from engine.snapshots.rows import CONSUMER
from engine.snapshots.vacating import Vacating
from engine.snapshots.worker import SnapshotLimits, SnapshotWorker
from engine.snapshots.writing import ShardWriter

if TYPE_CHECKING:
    from gateway.wiring.build import Gateway

log = logging.getLogger("atoll.gateway")

#: Seconds, or so many times the interval, after which a snapshot is called stale.
_STALE = 60.0
_STALE_INTERVALS = 10


class Standstill:
    """For how long nobody has looked how fresh the newest snapshot is: a worker that hangs must not look well."""

    def __init__(self, monotonic: Callable[[], float], patience: float) -> None:
        """`patience`: seconds between two looks that are nothing to speak of."""
        self._monotonic, self._patience = monotonic, patience
        self._last: Freshness | None = None
        self._since = monotonic()

    def seconds(self, freshness: Freshness) -> float:
        """Since `freshness`, which every look makes anew, was first seen here; 0 within the patience."""
        now = self._monotonic()
        if freshness is not self._last:
            self._last, self._since = freshness, now
        return now - self._since if now - self._since > self._patience else 0.0


class Snapshots:
    """`worker`, `covers` and `vacated` are None where the settings want no snapshots."""

    def __init__(self, gateway: Gateway, catalog: Catalog) -> None:
        """`catalog` is what background work reaches the catalog through."""
        settings = gateway.settings.snapshots
        self._gateway = gateway
        self.worker: SnapshotWorker | None = None
        self.covers: Covers | None = None
        self.vacated: Vacating | None = None
        if settings.every:
            self._root = RootKeys("", SnapshotKeys(gateway.deployment.keyring.derive))
            self.covers = Cover(catalog, gateway.clock, full=ShardWriter(gateway.placer).lacks_room)
            self.worker = SnapshotWorker(
                catalog,
                gateway.placer,
                gateway.clock,
                deployment=gateway.deployment.row.id,
                root=self._root_keys,
                leaving=lambda: {node.id for node in gateway.nodes.leaving()},
                limits=SnapshotLimits(settings.every, settings.retention),
            )
            self.vacated = Vacating(catalog, self.worker.writer, lambda: self._root_keys().keys)
            self._standstill = Standstill(gateway.clock.monotonic, max(_STALE, _STALE_INTERVALS * settings.every))

    async def start(self) -> None:
        """Let the feed be trimmed where no snapshots are wanted any more."""
        if self.worker is None:
            await FeedConsumer(self._gateway.catalog, CONSUMER).unregister()

    async def refresh(self) -> None:
        """Make a point now, if this gateway makes them and it can be done."""
        if self.worker is None:
            return
        self.worker.hasten()
        try:
            await self._gateway.runner.run(self.worker.name)
        except AtollError as error:
            log.warning("no snapshot could be made: %s", error)

    def _root_keys(self) -> RootKeys:
        keyring = self._gateway.deployment.keyring
        if self._root.id != keyring.root_key_id:
            self._root = RootKeys(keyring.root_key_id, SnapshotKeys(keyring.derive))
        return self._root

    async def look(self) -> Freshness:
        """As of now."""
        return await Freshness.look(self._gateway.catalog, self._gateway.clock)

    async def status(self) -> dict[str, Any]:
        """For `atoll status`: `lag_seconds` for which the oldest change waits, the newest point, its chain's size."""
        if self.worker is None:
            return {"enabled": False}
        fresh = await self.look()
        return {
            "enabled": True,
            "exists": fresh.exists,
            "lag_seconds": round(fresh.lag, 3),
            "point": _text(fresh.point_us) if fresh.exists else "",
            "sequence": fresh.sequence,
            "parts": fresh.parts,
            "bytes": fresh.bytes,
            "building": fresh.building,
        }

    async def warnings(self) -> list[str]:
        """What an operator should know, a sentence each."""
        if self.worker is None:
            return ["no snapshots of the catalog are kept: when this machine is lost, everything is"]
        fresh = await self.look()
        if not fresh.exists:
            return ["there is no snapshot of the catalog yet"]
        found: list[str] = []
        limit = max(_STALE, _STALE_INTERVALS * self._gateway.settings.snapshots.every)
        if fresh.lag > limit:
            found.append(f"the newest snapshot of the catalog, of {_text(fresh.point_us)}, is {fresh.lag:.0f} s behind")
        if fresh.root_key_id != self._gateway.deployment.keyring.root_key_id:
            found.append(
                f"the newest snapshot of the catalog opens with the former root key {fresh.root_key_id} only: keep "
                "that key until this warning is gone"
            )
        return found

    def samples(self, figure: str) -> list[Sample]:
        """One figure of `Freshness`, as of the last turn, for metrics; the lag grows on while no turn ends."""
        if self.worker is None or not self.worker.freshness.exists:
            return []
        freshness = self.worker.freshness
        more = self._standstill.seconds(freshness) if figure == "lag" else 0.0
        return [({}, float(getattr(freshness, figure)) + more)]


def _text(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, tz=UTC).isoformat(timespec="milliseconds")
