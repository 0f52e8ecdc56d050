"""What every process of a gateway consists of: the rooms from the catalog to the S3 edge, joined.

`build` adds what a gateway does alone (background work, snapshots, the admin socket, the listening socket), `guest`
what a process has that only helps to serve.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
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
from catalog.epochs import Epochs
from catalog.errors import CatalogClosed, CatalogMoving
from catalog.fencing import FencedCatalog
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.lmdb_engine.guest import GuestCatalog
from catalog.postgres_engine.catalog import PostgresCatalog
from core.access import PrincipalKind
from core.clock import Clock, SharedClock, SystemClock
from core.errors import ConfigError
from core.http.limits import KeyLimiter
from core.http.proxies import TrustedProxies
from core.metrics import Metrics
from engine.bodies.stage import LIMIT as STAGE_LIMIT
from engine.bodies.store import BodySettings, BodyStore
from engine.placement import LocalPlacer
from engine.store import ObjectStore
from gateway.migrate.claims import DeletionObserver
from gateway.migrate.jobs import Jobs
from gateway.migrate.read_through import ReadThrough
from gateway.s3.access import bucket_check
from gateway.s3.contract import S3Settings, Services
from gateway.s3.edge import S3Edge
from gateway.s3.handlers import register
from gateway.server import Server
from gateway.wiring.credentials import RootCredentials, root_credentials
from gateway.wiring.deployment import NODES, Deployment, open_deployment
from gateway.wiring.nodes import Nodes
from gateway.wiring.settings import Settings

log = logging.getLogger("atoll.gateway")

_DISK_THREADS = 12  # two pieces of each embedded node at once


class Rooms:
    """Everything that serves requests in one process. Closed once, by `close`, also after an opening that failed."""

    catalog: LmdbCatalog | PostgresCatalog | GuestCatalog
    fenced: FencedCatalog  # what background work under a lease reaches the catalog through
    deployment: Deployment
    nodes: Nodes
    epochs: Epochs
    placer: LocalPlacer
    bodies: BodyStore
    store: ObjectStore
    users: UserStore
    quotas: Quotas
    migrations: Jobs
    server: Server
    credentials: RootCredentials

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock: Clock = SystemClock()
        self.metrics = Metrics()
        self.endpoint = ""
        self.version = version("atoll")
        self.started = time.monotonic()
        self.closing = contextlib.AsyncExitStack()
        self.why_not_ready = "starting"

    async def furnish(self, *, may_create: bool) -> None:
        """Open everything above the catalog, which is there. Raises ConfigError and StartRefused."""
        settings = self.settings
        on_close = self.closing.push_async_callback
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
        self.epochs = await Epochs.register(self.catalog, self.clock, check=require_unmarked)
        on_close(self._leave)
        if settings.process_count > 1 and isinstance(self.catalog, LmdbCatalog):
            self.catalog.share()
        self.fenced = FencedCatalog(self.catalog)
        stage = STAGE_LIMIT // settings.process_count if self.catalog.local else 0
        self.bodies = BodyStore(self.fenced, self.epochs, self.placer, settings=BodySettings(stage=stage))
        on_close(self.bodies.close)
        await self.bodies.start()
        directory = self._open_accounts()
        self.store = ObjectStore(
            self.fenced,
            self.bodies,
            self.deployment.keyring,
            self.clock,
            observers=(DeletionObserver(),),
            quota=self.quotas,
        )
        on_close(self.store.close)
        await self.store.start()
        self.migrations = Jobs(self.fenced, self.store, self.deployment.secret, self.clock)
        arrivals = ReadThrough(self.migrations, self.store)
        on_close(arrivals.close)
        on_close(directory.close)
        await directory.start()
        self.server = Server(
            self._edge(directory, arrivals),
            http=settings.http,
            limits=settings.own_limits,
            tls=settings.tls,
            metrics=self.metrics,
            ready=self._not_ready,
            page=self.page,
        )

    async def page(self) -> bytes:
        """The page of metrics."""
        return self.metrics.render()

    async def close(self) -> None:
        """Drain the server, then close what was opened, last first."""
        await self.closing.aclose()
        log.info("ended")

    def hurry(self) -> None:
        """End the drain now."""
        if hasattr(self, "server"):
            self.server.hurry()

    def reload_certificate(self) -> None:
        """Take new certificate files into service."""
        if hasattr(self, "server"):
            self.server.reload_certificate()

    async def _leave(self) -> None:
        """Let the others know at once that this process ends."""
        with contextlib.suppress(CatalogMoving, CatalogClosed):  # nobody is left who would need to know
            await self.epochs.close()

    async def _open_nodes(self) -> Nodes:
        pool = ThreadPoolExecutor(_DISK_THREADS, thread_name_prefix="atoll-disk")
        self.closing.callback(partial(pool.shutdown, wait=True))
        nodes = Nodes(
            self.catalog,
            self.deployment,
            data=self.settings.data,
            configured=self.settings.nodes,
            floor=self.settings.free_space_floor,
            pool=pool,
            shared=self.settings.process_count > 1 or not self.catalog.local,
            now_us=self.clock.now_us,
        )
        self.closing.push_async_callback(nodes.close)
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
            limiter=KeyLimiter(settings.own_limits.max_key_requests),
            observe=self.metrics.requests.observe,
        )

    def _not_ready(self) -> str:
        if not self.why_not_ready and isinstance(self.catalog, PostgresCatalog):
            return self.catalog.trouble
        return self.why_not_ready
