"""Joins the rooms into one running gateway: the only place that knows every concrete class."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version

from accounts.authorizer import CannedAuthorizer
from accounts.directory import Directory
from accounts.errors import AccountError
from accounts.quotas import Quotas
from accounts.types import AccessKey, User
from accounts.users import UserStore
from catalog.copying.marks import require_unmarked
from catalog.epochs import EpochKeeper, Epochs
from catalog.errors import CatalogMoving
from catalog.feed import FeedTrimmer
from catalog.fencing import FencedCatalog
from catalog.leased_worker import LeasedWorker
from catalog.leases import Leases
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.lmdb_engine.folder import holds_catalog
from catalog.lmdb_engine.repack import Repacker
from catalog.postgres_engine.address import redacted
from catalog.postgres_engine.catalog import PostgresCatalog
from core.access import PrincipalKind
from core.clock import Clock, SharedClock, SystemClock
from core.errors import ConfigError, StartRefused
from core.http.limits import KeyLimiter
from core.http.proxies import TrustedProxies
from core.metrics import Metrics
from core.worker_runner import WorkerRunner
from core.workers import Worker
from engine.bodies.stage import LIMIT as STAGE_LIMIT
from engine.bodies.store import BodySettings, BodyStore
from engine.collection import CollectionWorker
from engine.compaction import CompactionWorker
from engine.drain import DrainWorker
from engine.placement import LocalPlacer
from engine.repair import RecodeWorker, RepairWorker
from engine.settling import SettlingWorker
from engine.store import ObjectStore
from engine.suspicion import HealthWorker
from engine.tally import TallyWorker
from gateway.admin.migrations import routes as migration_routes
from gateway.admin.service import AdminService
from gateway.migrate.claims import DeletionObserver
from gateway.migrate.jobs import Jobs
from gateway.migrate.operations import MigrationOperations
from gateway.migrate.read_through import ReadThrough
from gateway.migrate.worker import MigrationWorker
from gateway.s3.access import bucket_check
from gateway.s3.contract import S3Settings, Services
from gateway.s3.edge import S3Edge
from gateway.s3.handlers import register
from gateway.server import Server
from gateway.wiring.copying import Copying
from gateway.wiring.credentials import RootCredentials, root_credentials
from gateway.wiring.deployment import NODES, Deployment, open_deployment
from gateway.wiring.metrics_sources import add_sources
from gateway.wiring.nodes import NodeFollower, Nodes
from gateway.wiring.operations import GatewayOperations
from gateway.wiring.presence import presence, read_presence
from gateway.wiring.settings import Settings
from gateway.wiring.snapshots import Snapshots

log = logging.getLogger("atoll.gateway")

_DISK_THREADS = 12  # two pieces of each embedded node at once


class Gateway:
    """Everything of one process. `start` once, then `close` once, also after a `start` that failed."""

    deployment: Deployment
    catalog: LmdbCatalog | PostgresCatalog
    nodes: Nodes
    epochs: Epochs
    copying: Copying
    placer: LocalPlacer
    bodies: BodyStore
    store: ObjectStore
    users: UserStore
    quotas: Quotas
    runner: WorkerRunner
    tally: TallyWorker
    snapshots: Snapshots
    credentials: RootCredentials

    def __init__(
        self,
        settings: Settings,
        on_lost: Callable[[], None] | None = None,
        on_moved: Callable[[], None] | None = None,
    ) -> None:
        """`on_lost` is told when other gateways declared this one dead: it has to be closed, and may begin anew.
        `on_moved` is told when its catalog was moved to another place: it has to be closed."""
        self.settings = settings
        self._on_lost = on_lost
        self._on_moved = on_moved
        self.clock: Clock = SystemClock()
        self.metrics = Metrics()
        self.endpoint = ""
        self.version = version("atoll")
        self.started = time.monotonic()
        self._server: Server | None = None
        self._closing = contextlib.AsyncExitStack()
        self._why_not_ready = "starting"

    async def start(self, *, may_create: bool) -> str:
        """Open everything and serve; the endpoint's URL. Raises ConfigError and StartRefused."""
        settings = self.settings
        on_close = self._closing.push_async_callback
        self.catalog = await self._open_catalog(may_create)
        on_close(self.catalog.close)
        await self.catalog.read(require_unmarked)
        if isinstance(self.catalog, PostgresCatalog):
            self.clock = SharedClock(self.catalog.now_us)  # else gateways would give each other's times
        self.deployment = await open_deployment(
            self.catalog,
            data=settings.data,
            root_key_file=settings.root_key_file,
            now_us=self.clock.now_us(),
            may_create=may_create,
            nodes=len(settings.nodes) or NODES,
        )
        self.credentials = await root_credentials(settings, self.catalog, self.deployment.secret, self.clock.now_us())
        self.nodes = await self._open_nodes()
        self.placer = self.nodes.placer
        epochs = self.epochs = await Epochs.register(self.catalog, self.clock, check=require_unmarked)
        on_close(self._leave)
        fenced = FencedCatalog(self.catalog)  # what background work under a lease reaches the catalog through
        stage = STAGE_LIMIT if self.catalog.exclusive else 0
        self.bodies = BodyStore(fenced, epochs, self.placer, settings=BodySettings(stage=stage))
        on_close(self.bodies.close)
        await self.bodies.start()
        directory = self._open_accounts()
        self.store = ObjectStore(
            fenced,
            self.bodies,
            self.deployment.keyring,
            self.clock,
            observers=(DeletionObserver(),),
            quota=self.quotas,
        )
        on_close(self.store.close)
        await self.store.start()
        migrations = Jobs(fenced, self.store, self.deployment.secret, self.clock)
        arrivals = ReadThrough(migrations, self.store)
        on_close(arrivals.close)
        on_close(directory.close)
        await directory.start()
        self._server = Server(
            self._edge(directory, arrivals),
            http=settings.http,
            limits=settings.limits,
            tls=settings.tls,
            metrics=self.metrics,
            ready=self._not_ready,
        )
        self.tally = TallyWorker(self.bodies)
        self.snapshots = Snapshots(self, fenced)
        await self.snapshots.start()
        migrator = MigrationWorker(migrations, self.clock)
        shared = self._shared_workers(epochs, fenced, migrator)
        for worker in shared:
            on_close(worker.release)
        on_close(migrator.close)
        keeper = EpochKeeper(epochs, lost=self._lost, note=partial(presence, self))
        own: list[Worker] = [
            HealthWorker(self.bodies, self.placer, self.clock),
            keeper,
            self.tally,
        ]
        if not self.catalog.exclusive:
            own.append(NodeFollower(self.nodes))
        if isinstance(self.catalog, LmdbCatalog):
            own.append(Repacker(self.catalog))
        self.runner = WorkerRunner([*own, *shared], self._server.load)
        on_close(self.runner.close)
        self.bodies.stage.settle = partial(self.runner.wake, SettlingWorker.name)
        self.runner.start()
        add_sources(self)
        self.copying = Copying(
            self.catalog,
            epochs,
            self.clock,
            deployment=self.deployment.row.id,
            on_moved=self._moved,
            describe=read_presence,
        )
        on_close(self.copying.close)
        await self.copying.start()
        wake = partial(self.runner.wake, migrator.name)
        admin = AdminService(
            GatewayOperations(self), settings.data, migration_routes(MigrationOperations(migrations, wake))
        )
        on_close(admin.close)
        await admin.start()
        on_close(self._server.drain)
        host, port = await self._server.start(*settings.address())
        scheme = "https" if settings.tls.certificate else "http"
        self.endpoint = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        self._why_not_ready = ""
        self.runner.wake(keeper.name)  # the others learn where this one is
        log.info("serving", extra={"fields": {"endpoint": self.endpoint, "deployment": self.deployment.row.id.hex()}})
        return self.endpoint

    async def close(self) -> None:
        """Drain the server, then close what was opened, last first."""
        await self._closing.aclose()
        log.info("ended")

    def hurry(self) -> None:
        """End the drain now."""
        if self._server is not None:
            self._server.hurry()

    def _lost(self) -> None:
        log.error("the other gateways declared this one dead, because it did not answer for long; it begins anew")
        self._why_not_ready = "declared dead by the other gateways"
        if self._on_lost is not None:
            self._on_lost()

    def _moved(self) -> None:
        self._why_not_ready = "the catalog was moved to another place"
        if self._on_moved is not None:
            self._on_moved()

    async def _leave(self) -> None:
        """Let the others know at once that this process ends."""
        with contextlib.suppress(CatalogMoving):  # nobody is left who would need to know
            await self.epochs.close()

    def reload_certificate(self) -> None:
        if self._server is not None:
            self._server.reload_certificate()

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

    async def _open_nodes(self) -> Nodes:
        pool = ThreadPoolExecutor(_DISK_THREADS, thread_name_prefix="atoll-disk")
        self._closing.callback(partial(pool.shutdown, wait=True))
        nodes = Nodes(
            self.catalog,
            self.deployment,
            data=self.settings.data,
            configured=self.settings.nodes,
            floor=self.settings.free_space_floor,
            pool=pool,
            now_us=self.clock.now_us,
        )
        self._closing.push_async_callback(nodes.close)
        await nodes.open()
        return nodes

    def _open_accounts(self) -> Directory:
        row, secret = self.deployment.row, self.deployment.secret
        root = User(row.root_user, "root", keys=(self.credentials.key,), kind=PrincipalKind.ROOT, declared=True)
        declared = [root]
        quotas: dict[str, int | None] = {}
        for user in self.settings.users:
            derived = hashlib.sha256(row.id + user.name.encode()).hexdigest()
            key = AccessKey(user.access_key_id, user.secret_access_key.reveal())
            declared.append(User(user.id or derived, user.name, user.email, (key,), declared=True))
            quotas[user.id or derived] = user.max_buckets
        self.quotas = Quotas(row.root_user, quotas, self.settings.accounts.max_buckets)
        try:
            self.users = UserStore(self.catalog, secret, self.clock, declared)
            return Directory(self.catalog, secret, declared)
        except AccountError as error:
            raise ConfigError(f"users: {error}") from error

    def _edge(self, directory: Directory, arrivals: ReadThrough) -> S3Edge:
        settings = self.settings
        services = Services(
            store=self.store,
            authorizer=CannedAuthorizer(),
            users=directory,
            settings=S3Settings(region=settings.region, base_domains=settings.domains),
            clock=self.clock,
            arrivals=arrivals,
        )
        return S3Edge(
            register(services),
            keys=directory,
            check_bucket=bucket_check(services),
            settings=services.settings,
            clock=self.clock,
            proxies=TrustedProxies(settings.trusted_proxies),
            limiter=KeyLimiter(settings.limits.max_key_requests),
            observe=self.metrics.requests.observe,
        )

    def _shared_workers(self, epochs: Epochs, catalog: FencedCatalog, migrator: MigrationWorker) -> list[LeasedWorker]:
        """Work that one gateway at a time does for all."""
        leases = Leases(self.catalog, self.clock, holder=epochs.holder, lives=epochs.lives)
        workers: list[Worker] = [
            RepairWorker(self.bodies),
            RecodeWorker(self.bodies),
            CollectionWorker(self.bodies, covers=self.snapshots.covers),
            SettlingWorker(self.bodies),
            CompactionWorker(self.bodies, lambda: self.runner.breathe(CompactionWorker.name)),
            DrainWorker(self.bodies, self.nodes, vacated=self.snapshots.vacated),
            FeedTrimmer(catalog, self.clock),
            migrator,
            *self.store.workers(),
        ]
        if self.snapshots.worker is not None:
            workers.append(self.snapshots.worker)
        return [LeasedWorker(worker, leases, self.clock) for worker in workers]

    def _not_ready(self) -> str:
        if not self._why_not_ready and isinstance(self.catalog, PostgresCatalog):
            return self.catalog.trouble
        return self._why_not_ready
