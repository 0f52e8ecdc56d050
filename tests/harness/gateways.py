"""Several gateway processes over one PostgreSQL and one set of node folders, and clients that talk to all of them."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from catalog.postgres_engine.catalog import PostgresCatalog
from core.ids import is_snapshot_name
from gateway.admin.client import AdminClient
from gateway.wiring.nodes import read_nodes
from tests.harness.history import LoadGenerator
from tests.harness.linearizability import Applied, Operation, Step
from tests.harness.live_server import READY, LiveServer
from tests.harness.load import ABSENT, Gone, Load
from tests.harness.postgres_server import PostgresServer
from tests.harness.tidying import TIDY
from tests.harness.versioned import VersionedLoad
from tests.races.audit import audit

NODES = 6
_PIECE = re.compile(r"[0-9a-f]{16}-[0-9a-f]{32}")
#: A client gives up on a gateway that was stopped.
_PATIENCE = Config(connect_timeout=3, read_timeout=8)


class GatewayProcess(LiveServer):
    """One of several: a data folder of its own, a catalog and nodes that it shares."""

    def __init__(
        self, folder: Path, *, catalog: str, root_key: Path, nodes: Sequence[Path], env: Mapping[str, str] | None = None
    ) -> None:
        shared = {
            "ATOLL_CATALOG": catalog,
            "ATOLL_ROOT_KEY_FILE": str(root_key),
            "ATOLL_NODES": ",".join(map(str, nodes)),
        }
        super().__init__(folder, env={**shared, **(env or {})})
        self.admin = AdminClient(self.data)
        self.program: Sequence[str] = ()  # what runs, where that is not the command itself

    def command_line(self) -> list[str]:
        return list(self.program) or super().command_line()

    def beginnings(self) -> int:
        """How often this process became ready: more than once when it was declared dead."""
        return sum(READY.search(line) is not None for line in list(self.output))


class Cluster:
    """Gateways, their PostgreSQL and their nodes, all below `folder`. As a *server* of a load it is any of them."""

    def __init__(self, folder: Path, postgres: PostgresServer, database: str, *, count: int = 3) -> None:
        self.folder, self.postgres, self.database = folder, postgres, database
        self.nodes = [folder / "nodes" / str(number) for number in range(1, NODES + 1)]
        self.gateways = [self.new_gateway(f"gateway-{number}") for number in range(1, count + 1)]

    @property
    def url(self) -> str:
        return self.postgres.url(self.database)

    def new_gateway(self, name: str, *, env: Mapping[str, str] | None = None) -> GatewayProcess:
        root_key = self.folder / "root.key"
        return GatewayProcess(self.folder / name, catalog=self.url, root_key=root_key, nodes=self.nodes, env=env)

    def start(self) -> None:
        """The first makes the deployment, the others join it."""
        for gateway in self.gateways:
            gateway.start()

    def kill(self) -> None:
        for gateway in self.gateways:
            gateway.kill()

    def client(self, **options: Any) -> Any:
        config = _PATIENCE.merge(options.pop("config", Config()))
        return AnyGateway([gateway.client(config=config, **options) for gateway in self.gateways])

    def cut_connections(self) -> None:
        """End every session that gateways have with the database."""
        statement = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            f"WHERE datname = '{self.database}' AND pid <> pg_backend_pid()"
        )
        asyncio.run(self.postgres.execute(self.database, statement))

    def wait_until_serving(self, timeout: float = 30.0) -> None:
        """Until every gateway answers from the catalog."""
        deadline = time.monotonic() + timeout
        for gateway in self.gateways:
            client = gateway.client(config=_PATIENCE)
            while not _serves(client):
                assert time.monotonic() < deadline, f"{gateway.folder.name} does not serve"
                time.sleep(0.1)

    # --- what is left in the end ---

    def finish(self) -> None:
        """Stop all, let one tidy up after all the others, and compare what is stored with what is live."""
        for gateway in self.gateways:
            gateway.stop()
        last = self.gateways[0]
        last.start()
        deadline = time.monotonic() + 60
        while not all(node["up"] for node in last.admin.call("GET", "/status")["nodes"]):
            assert time.monotonic() < deadline, "a node did not come back"
            time.sleep(0.2)
        while len(last.admin.call("GET", "/status")["gateways"]) > 1:
            assert time.monotonic() < deadline, "the dead were not noticed"
            time.sleep(0.5)
        for worker in (*TIDY, *TIDY):
            last.admin.call("POST", f"/workers/{worker}/run")
        last.stop()
        asyncio.run(self._audit())

    def held(self) -> list[set[bytes]]:
        """The pieces of objects on each node. Raises AssertionError for a file that is neither piece nor marker."""
        found = []
        for folder in self.nodes:
            names = {path.name for path in folder.rglob("*") if path.is_file() and path.name != "node.marker"}
            strange = {name for name in names if not _PIECE.fullmatch(name)}
            assert not strange, f"left in {folder}: {strange}"
            found.append({name.encode() for name in names if not is_snapshot_name(name)})
        return found

    async def _audit(self) -> None:
        catalog = await PostgresCatalog.open(self.url)
        try:
            rows = await catalog.read(read_nodes)
            by_folder = dict(zip(map(str, self.nodes), self.held(), strict=True))
            await audit(catalog, {node_id: by_folder[row.folder] for node_id, row in rows.items()})
        finally:
            await catalog.close()


def _serves(client: Any) -> bool:
    try:
        client.list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True


class AnyGateway:
    """A client whose every call goes to another gateway."""

    def __init__(self, clients: Sequence[Any]) -> None:
        self._clients = clients

    def __getattr__(self, name: str) -> Any:
        return getattr(random.choice(self._clients), name)


class _LoadOnMany(Load):
    """Goes on when one of the gateways is away."""

    may_refuse: ClassVar[bool] = True

    def _work(self, seed: int) -> None:
        self._on_and_on(super()._work, seed)

    def _work_slowly(self, seed: int) -> None:
        self._on_and_on(super()._work_slowly, seed)

    def _on_and_on(self, work: Callable[[int], None], seed: int) -> None:
        seeded = random.Random(seed)
        while not self._stop.is_set():
            work(seeded.getrandbits(60))  # until something breaks
            time.sleep(0.05)

    def run(
        self, key: str, name: str, step: Step, call: Callable[[], Any], answered: Callable[[Any], Step] | None = None
    ) -> Any:
        def counted() -> Any:
            try:
                return call()
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
                    self.note_unexpected(f"{name} {key}", error)
                raise
            except (EndpointConnectionError, ConnectionRefusedError) as error:
                raise Gone from error  # nothing was sent

        return super().run(key, name, step, counted, answered)


def _is_there(there: bool) -> Step:
    return lambda state: Applied(state) if (state is not ABSENT) is there else None


class PlainLoad(_LoadOnMany, LoadGenerator):
    """Load on a bucket without versioning."""

    actions: ClassVar[dict[str, int]] = {
        name: weight for name, weight in LoadGenerator.actions.items() if name != "_new_bucket"
    } | {"_list": 1}

    def _list(self, client: Any, key: str, _: bytes, __: random.Random) -> None:
        """Whether a listing shows the key: that it is there, and no more."""
        start = time.monotonic()
        try:
            found = client.list_objects_v2(Bucket=self.bucket, Prefix=key, MaxKeys=1).get("Contents", [])
        except (BotoCoreError, OSError) as error:
            raise Gone from error
        there = any(entry["Key"] == key for entry in found)
        self._history.add(key, Operation(f"listed: {there}", start, _is_there(there), time.monotonic()))


class KeepingLoad(_LoadOnMany, VersionedLoad):
    """Load on a bucket with versioning."""
