"""One running gateway: the rooms with background work, snapshots, the admin socket and the listening socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial

from catalog.epochs import EpochKeeper
from catalog.feed import FeedTrimmer
from catalog.leased_worker import LeasedWorker
from catalog.leases import Leases
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.lmdb_engine.folder import holds_catalog
from catalog.lmdb_engine.repack import Repacker
from catalog.postgres_engine.address import redacted
from catalog.postgres_engine.catalog import PostgresCatalog
from core.errors import AtollError, StartRefused
from core.worker_runner import WorkerRunner
from core.workers import Worker
from engine.collection import CollectionWorker
from engine.compaction import CompactionWorker
from engine.drain import DrainWorker
from engine.repair import RecodeWorker, RepairWorker
from engine.settling import SettlingWorker
from engine.suspicion import HealthWorker
from engine.tally import TallyWorker
from gateway.admin.migrations import routes as migration_routes
from gateway.admin.service import AdminService
from gateway.migrate.operations import MigrationOperations
from gateway.migrate.worker import MigrationWorker
from gateway.wiring.copying import Copying
from gateway.wiring.guests import Guests
from gateway.wiring.metrics_sources import add_sources
from gateway.wiring.nodes import NodeFollower
from gateway.wiring.nursery import Nursery
from gateway.wiring.operations import GatewayOperations
from gateway.wiring.presence import presence, read_presence
from gateway.wiring.rooms import Rooms
from gateway.wiring.settings import Settings
from gateway.wiring.snapshots import Snapshots

log = logging.getLogger("atoll.gateway")

#: Seconds that an orderly end takes at most to write what waits for its pack.
_SETTLING = 5.0


class Gateway(Rooms):
    """Everything of one gateway, in one process or, with guests, in several. `start` once, then `close` once, also
    after a `start` that failed."""

    catalog: LmdbCatalog | PostgresCatalog
    copying: Copying
    runner: WorkerRunner
    tally: TallyWorker
    snapshots: Snapshots

    def __init__(
        self,
        settings: Settings,
        on_lost: Callable[[], None] | None = None,
        on_moved: Callable[[], None] | None = None,
        nursery: Nursery | None = None,
    ) -> None:
        """`on_lost` is told when other gateways declared this one dead: it has to be closed, and may begin anew.
        `on_moved` is told when its catalog was moved to another place: it has to be closed. Its further processes come
        from `nursery`."""
        super().__init__(settings)
        self._on_lost = on_lost
        self._on_moved = on_moved
        self._hurried = False
        self.guests = Guests(settings, nursery, page=self.page)

    async def start(self, *, may_create: bool) -> str:
        """Open everything and serve; the endpoint's URL. Raises ConfigError and StartRefused."""
        settings = self.settings
        on_close = self.closing.push_async_callback
        self.catalog = await self._open_catalog(may_create)
        on_close(self.catalog.close)
        await self.furnish(may_create=may_create)
        self.tally = TallyWorker(self.bodies)
        self.snapshots = Snapshots(self, self.fenced)
        await self.snapshots.start()
        migrator = MigrationWorker(self.migrations, self.clock)
        shared = self._shared_workers(migrator)
        for worker in shared:
            on_close(worker.release)
        on_close(migrator.close)
        keeper = EpochKeeper(self.epochs, lost=self._lost, note=partial(presence, self))
        own: list[Worker] = [
            HealthWorker(self.bodies, self.placer, self.clock),
            keeper,
            self.tally,
            self.bodies.stage,
        ]
        if not self.catalog.local:
            own.append(NodeFollower(self.nodes))
        if isinstance(self.catalog, LmdbCatalog):
            own.append(Repacker(self.catalog))
        self.runner = WorkerRunner([*own, *shared], self.server.load)
        on_close(self.runner.close)
        if self.catalog.local:
            on_close(self._settle)  # its guests have ended by then
        self.bodies.stage.wake = partial(self.runner.wake, self.bodies.stage.name)
        self.bodies.stage.settle = self.guests.settle = partial(self.runner.wake, SettlingWorker.name)
        self.runner.start()
        add_sources(self)
        self.copying = Copying(
            self.catalog,
            self.epochs,
            self.clock,
            deployment=self.deployment.row.id,
            on_moved=self._moved,
            describe=read_presence,
        )
        on_close(self.copying.close)
        await self.copying.start()
        if isinstance(self.catalog, LmdbCatalog):
            self.guests.take, self.guests.room = partial(self.server.let_in, moved=True), self.server.room
            on_close(self.guests.close)  # while the catalog is open
            await self.guests.begin(self.catalog.admit)
        wake = partial(self.runner.wake, migrator.name)
        admin = AdminService(
            GatewayOperations(self), settings.data, migration_routes(MigrationOperations(self.migrations, wake))
        )
        on_close(admin.close)
        await admin.start()
        on_close(self._drain)
        several = settings.process_count > 1
        await self.server.open(self.guests.mover if several else None)
        pass_on = self.guests.pass_on if several else None
        host, port = await self.server.listen(*settings.address(), pass_on=pass_on)
        scheme = "https" if settings.tls.certificate else "http"
        self.endpoint = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        self.why_not_ready = ""
        self.runner.wake(keeper.name)  # the others learn where this one is
        log.info("serving", extra={"fields": {"endpoint": self.endpoint, "deployment": self.deployment.row.id.hex()}})
        return self.endpoint

    async def page(self) -> bytes:
        """The page of metrics, of all processes together."""
        return self.metrics.render(await self.guests.figures())

    async def _drain(self) -> None:
        self.guests.end()
        await self.server.drain()

    async def _settle(self) -> None:
        """Leave nothing in the catalog that waits for its pack: an earlier release would not find it there."""
        with contextlib.suppress(AtollError, TimeoutError):
            async with asyncio.timeout(0 if self._hurried else _SETTLING):
                self.runner.force(SettlingWorker.name)
                await self.runner.run(SettlingWorker.name)

    def hurry(self) -> None:
        """End the drain now."""
        self._hurried = True
        super().hurry()
        self.guests.end()

    def reload_certificate(self) -> None:
        """Take new certificate files into service."""
        super().reload_certificate()
        self.guests.reload_certificate()

    def _lost(self) -> None:
        log.error("the other gateways declared this one dead, because it did not answer for long; it begins anew")
        self.why_not_ready = "declared dead by the other gateways"
        if self._on_lost is not None:
            self._on_lost()

    def _moved(self) -> None:
        self.why_not_ready = "the catalog was moved to another place"
        if self._on_moved is not None:
            self._on_moved()

    def warnings(self) -> list[str]:
        """What an operator should know, a sentence each."""
        found: list[str] = []
        row = self.deployment.row
        if row.exported_key_id != self.deployment.keyring.root_key_id:
            found.append(
                "the root key was never exported: without it nothing can be read; run `atoll keys export` and keep it "
                "on another machine"
            )
        devices = {node.backend.properties().device for node in self.placer.nodes() if self.placer.is_up(node.id)}
        if len(devices) == 1 and "" not in devices:
            found.append(f"all nodes share one device ({devices.pop()}): when it fails, everything is lost")
        if down := [node.name for node in self.placer.nodes() if not self.placer.is_up(node.id)]:
            found.append(f"down: {', '.join(down)}")
        return found

    async def _open_catalog(self, may_create: bool) -> LmdbCatalog | PostgresCatalog:
        if url := self.settings.catalog.url.reveal():
            log.info("opening the catalog", extra={"fields": {"catalog": redacted(url)}})
            return await PostgresCatalog.open(url, may_create=may_create, connections=self.settings.catalog.connections)
        folder, nodes = self.settings.data / "catalog", self.settings.data / "nodes"
        if not holds_catalog(folder):
            if not may_create:
                raise StartRefused(
                    f"{self.settings.data} holds no deployment; `atoll up` or `atoll serve --init` makes one"
                )
            if nodes.exists() and any(nodes.iterdir()):
                raise StartRefused(
                    f"{nodes} holds nodes but {folder} is missing or empty; put it back, restore a backup of it with "
                    f"`atoll catalog restore`, or what the nodes know with `atoll restore`"
                )
        return await LmdbCatalog.open(folder, clock=self.clock)

    def _shared_workers(self, migrator: MigrationWorker) -> list[LeasedWorker]:
        """Work that one gateway at a time does for all."""
        leases = Leases(self.catalog, self.clock, holder=self.epochs.holder, lives=self.epochs.lives)
        workers: list[Worker] = [
            RepairWorker(self.bodies),
            RecodeWorker(self.bodies),
            CollectionWorker(self.bodies, covers=self.snapshots.covers),
            SettlingWorker(self.bodies),
            CompactionWorker(self.bodies, lambda: self.runner.breathe(CompactionWorker.name)),
            DrainWorker(self.bodies, self.nodes, vacated=self.snapshots.vacated),
            FeedTrimmer(self.fenced, self.clock),
            migrator,
            *self.store.workers(),
        ]
        if self.snapshots.worker is not None:
            workers.append(self.snapshots.worker)
        return [LeasedWorker(worker, leases, self.clock) for worker in workers]
