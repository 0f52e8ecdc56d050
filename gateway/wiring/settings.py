"""Every setting of the program: names, kinds, defaults. See the table in the README."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from accounts.errors import InvalidUser
from accounts.quotas import MOST_BUCKETS, is_quota
from accounts.types import AccessKey, User, check_user
from catalog.postgres_engine.address import is_address
from core import crashpoints
from core.config import Duration, Layer, Secret, Size, environment_layer, file_layer, load
from gateway.server_settings import HttpSettings, LimitSettings, TlsSettings

PREFIX = "ATOLL_"
CONFIG_VARIABLE = "ATOLL_CONFIG"
CATALOG_VARIABLE = "ATOLL_CATALOG"  # a short name of catalog.url
COPY_VARIABLE = "ATOLL_CATALOG_COPY_TO"  # of `atoll catalog copy`
_NOT_SETTINGS = (CONFIG_VARIABLE, CATALOG_VARIABLE, COPY_VARIABLE, crashpoints.VARIABLE)
DEFAULT_FILE = Path("atoll.toml")
MOST_PROCESSES = 64
ENOUGH_PROCESSES = 2


#: What settings call a user's properties, where it is another name.
_SETTING_OF = {"access key": "access_key_id", "secret key": "secret_access_key", "e-mail address": "email"}


def _check_user(name: str, key_id: str, secret: Secret, canonical_id: str = "", email: str = "") -> None:
    """Raises ValueError, before anything was made on disk."""
    try:
        check_user(User(canonical_id or "derived", name, email, (AccessKey(key_id, secret.reveal()),)))
    except InvalidUser as error:
        raise ValueError(f"{_SETTING_OF.get(error.field, error.field)} must be {error.rule}") from None


def _check_max_buckets(most: int | None) -> None:
    if most is not None and not is_quota(most):
        raise ValueError(f"max_buckets must be from 0 to {MOST_BUCKETS}")


@dataclass(frozen=True)
class UserSettings:
    """A user written in the file. `id` is the canonical id; empty: derived from deployment and name. `max_buckets`:
    how many it may own; unset: as accounts.max_buckets."""

    name: str
    access_key_id: str
    secret_access_key: Secret
    id: str = ""
    email: str = ""
    max_buckets: int | None = None

    def __post_init__(self) -> None:
        _check_user(self.name, self.access_key_id, self.secret_access_key, self.id, self.email)
        _check_max_buckets(self.max_buckets)


@dataclass(frozen=True)
class AccountSettings:
    """What holds for every user but root. `max_buckets`: how many one may own without a quota of its own; unset: any
    number."""

    max_buckets: int | None = None

    def __post_init__(self) -> None:
        _check_max_buckets(self.max_buckets)


@dataclass(frozen=True)
class CatalogSettings:
    """Where the catalog is. `url`: a database that gateways share (postgresql://…; it may hold a password); empty: in
    the data folder. `connections`: the most that this gateway holds to the database."""

    url: Secret = field(default_factory=lambda: Secret(""))
    connections: int = 16

    def __post_init__(self) -> None:
        if self.url and not is_address(self.url.reveal()):
            raise ValueError("catalog.url must begin with postgresql://")
        if self.connections < 4:
            raise ValueError("catalog.connections must be at least 4")


@dataclass(frozen=True)
class SnapshotSettings:
    """Snapshots of the catalog on the nodes. `every`: seconds between two while there are changes; 0: none are made.
    `retention`: seconds after which nothing deleted is left in any."""

    every: Duration = 4.0
    retention: Duration = 86_400.0

    def __post_init__(self) -> None:
        if self.every and not 0.1 <= self.every <= 3600:
            raise ValueError("snapshots.every must be 0, or from 0.1 s to 1 h")
        if self.retention < 10 * self.every:
            raise ValueError("snapshots.retention must be at least ten times snapshots.every")


@dataclass(frozen=True)
class LogSettings:
    level: str = "info"
    access: bool = False
    plain: bool = False

    def __post_init__(self) -> None:
        if self.level not in ("debug", "info", "warning", "error"):
            raise ValueError("log.level must be debug, info, warning or error")


@dataclass(frozen=True)
class Settings:
    """All settings."""

    data: Path = Path("data")
    listen: str = "127.0.0.1:9000"
    processes: int = 0
    access_key_id: str = ""
    secret_access_key: Secret = field(default_factory=lambda: Secret(""))
    region: str = "us-east-1"
    domains: tuple[str, ...] = ("localhost",)
    root_key_file: Path | None = None
    nodes: tuple[Path, ...] = ()
    catalog: CatalogSettings = field(default_factory=CatalogSettings)
    snapshots: SnapshotSettings = field(default_factory=SnapshotSettings)
    free_space_floor: Size = 1 << 30
    trusted_proxies: tuple[str, ...] = ()
    tls: TlsSettings = field(default_factory=TlsSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    log: LogSettings = field(default_factory=LogSettings)
    accounts: AccountSettings = field(default_factory=AccountSettings)
    users: tuple[UserSettings, ...] = ()

    def __post_init__(self) -> None:
        self.address()
        if len({path.absolute() for path in self.nodes}) != len(self.nodes):
            raise ValueError("nodes names a folder twice")
        if not 0 <= self.processes <= MOST_PROCESSES:
            raise ValueError(f"processes must be from 0 to {MOST_PROCESSES}")
        if self.processes > 1 and self.catalog.url:
            raise ValueError("processes is for a catalog in the data folder; on a database start more gateways instead")
        for network in self.trusted_proxies:
            ipaddress.ip_network(network, strict=False)
        if bool(self.access_key_id) != bool(self.secret_access_key):
            raise ValueError("access_key_id and secret_access_key belong together")
        if self.access_key_id:
            _check_user("root", self.access_key_id, self.secret_access_key)
        for what in ("name", "access_key_id", "id", "email"):
            values = [value for user in self.users if (value := getattr(user, what))]
            if what == "access_key_id":
                values.append(self.access_key_id)
            if twice := next((value for value in values if values.count(value) > 1), ""):
                raise ValueError(f"two users have the {what} {twice}")

    @property
    def process_count(self) -> int:
        """How many processes serve: as many as `processes` says; 0 is one for each processor, up to two, and one alone
        where more gateways on the database are the way to use more processors."""
        if self.processes or self.catalog.url:
            return self.processes or 1
        return min(len(os.sched_getaffinity(0)), ENOUGH_PROCESSES)

    @property
    def own_limits(self) -> LimitSettings:
        """What one process takes at once: its share of the gateway's limits."""
        whole, count = self.limits, self.process_count
        return replace(
            whole,
            max_connections=-(-whole.max_connections // count),
            max_requests=-(-whole.max_requests // count),
            max_key_requests=-(-whole.max_key_requests // count),
        )

    def address(self) -> tuple[str, int]:
        """Host and port to listen on; port 0 takes a free one."""
        host, colon, port = self.listen.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65535:
            raise ValueError("listen must be HOST:PORT")
        return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 - the user wrote ":PORT"


def load_settings(
    environ: Mapping[str, str], *, config: Path | None = None, flags: Mapping[str, Any] | None = None
) -> Settings:
    """Settings of the file (`config`, else ATOLL_CONFIG, else ./atoll.toml if there is one), environment and flags,
    in rising precedence. Raises ConfigError."""
    layers: list[Layer] = []
    if config is None and environ.get(CONFIG_VARIABLE):
        config = Path(environ[CONFIG_VARIABLE])
    if config is None and DEFAULT_FILE.exists():
        config = DEFAULT_FILE
    if config is not None:
        layers.append(file_layer(config))
    layers.append(environment_layer(Settings, environ, PREFIX, ignore=_NOT_SETTINGS))
    if CATALOG_VARIABLE in environ:
        layers.append(Layer("environment", {"catalog": {"url": environ[CATALOG_VARIABLE]}}))
    layers.append(Layer("flags", flags or {}))
    return load(Settings, layers)
