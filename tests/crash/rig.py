"""A server that is killed under load and started again, and what must hold each time it came back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from catalog.interface import Catalog
from catalog.lmdb_engine.catalog import LmdbCatalog
from core.clock import SystemClock
from core.ids import is_snapshot_name
from engine.keyring import LocalKeyWrapper
from gateway.admin.client import AdminClient, NotRunning
from gateway.wiring.deployment import load
from tests.harness.history import LoadGenerator, empty, settle
from tests.harness.live_server import LiveServer
from tests.harness.load import History, Load
from tests.harness.tidying import TIDY
from tests.harness.versioned import VersionedLoad, Versions, settle_versions
from tests.races.audit import audit

BUCKET = "crash"
NODES = 6
#: Operations that a load has answered before it counts as under way.
WARM = 50
_PIECE = re.compile(r"[0-9a-f]{16}-[0-9a-f]{32}")


class Rig:
    """One server over one folder, its history, and a gate that arms the crash point of the running process."""

    def __init__(self, folder: Path, seed: str) -> None:
        self.server = LiveServer(folder)
        self.environment: dict[str, str] = {}  # of the processes that start from now on
        self.history = self.new_history()
        self.seeded = random.Random(seed)
        self.crashes = self.cut_off = 0
        self.restarts: list[float] = []  # seconds until the server was ready
        self._gate = folder / "armed"
        self._admin = AdminClient(self.server.data)

    def start(self, point: str = "", nth: int = 1) -> None:
        """Start with a crash point that stays shut until `crash`, and check what the last crash left."""
        self._gate.unlink(missing_ok=True)
        first = not self.server.data.exists()
        began = time.monotonic()
        armed = {"ATOLL_CRASH_POINT": f"{point}:{nth}@{self._gate}"} if point else {}
        self.server.start(env={**self.environment, **armed})
        self.restarts.append(time.monotonic() - began)
        if first:
            self.make_bucket(self.server.client())
        self.check()

    # what a kind of load is made of

    def new_history(self) -> History:
        return History()

    def make_bucket(self, client: Any) -> None:
        client.create_bucket(Bucket=BUCKET)

    def new_load(self, seed: int, threads: int) -> Load:
        return LoadGenerator(self.server, self.history, seed=seed, bucket=BUCKET, threads=threads)

    def settle(self) -> History:
        return settle(self.server, BUCKET, self.history)

    # the life of the server

    def check(self) -> None:
        """Every answer fits what is there; the root key's file is the one in force."""
        self.history = self.settle()
        in_force = self.admin("GET", "/status")["root_key"]
        assert in_force == LocalKeyWrapper.from_file(self.server.folder / "root.key").key_id

    def admin(self, method: str, path: str) -> Any:
        """Ask over the admin socket."""
        return self._admin.call(method, path)

    def rotate(self) -> None:
        """Put a new root key in force."""
        for _ in self._admin.stream("POST", "/keys/rotate"):
            pass

    @contextlib.contextmanager
    def load(self, threads: int = 6) -> Iterator[Load]:
        """Mixed load that is under way when the block begins and ended when it ends."""
        before = self.history.recorded()
        load = self.new_load(self.seeded.getrandbits(60), threads)
        load.start()
        deadline = time.monotonic() + 30
        while self.history.recorded() < before + WARM:
            assert time.monotonic() < deadline, "no load"
            time.sleep(0.01)
        try:
            yield load
        finally:
            load.stop()
        assert not load.unexpected, load.unexpected[:5]
        self.cut_off += load.cut_off

    def crash(self, point: str, provoke: Callable[[], None] | None) -> None:
        """Open the gate under load and wait until the process has killed itself."""
        with self.load() as load:
            self._gate.touch()
            deadline = time.monotonic() + 60
            while self.server.running():
                assert time.monotonic() < deadline, f"{point} was not reached"
                time.sleep(0.02)
                if provoke is not None:
                    with contextlib.suppress(NotRunning):
                        provoke()
            assert self.server.wait() == -9, "".join(self.server.output[-20:])
        assert load.cut_off, f"{point}: no request was under way"
        self.crashes += 1

    def figures(self) -> str:
        """What the run amounted to."""
        return (
            f"{self.crashes} crashes, {self.history.acknowledged} operations answered, {self.cut_off} cut off, "
            f"ready again after {max(self.restarts):.1f} s at most"
        )

    def finish(self) -> None:
        """What is stored is what is live, piece by piece; ends the server."""
        self._tidy()
        self.server.stop()
        asyncio.run(_audit(self.server))

    def finish_empty(self) -> None:
        """Without objects nothing is stored; ends the server."""
        self.check()
        empty(self.server)
        self.finish()
        held = _held(self.server)
        assert not any(held), f"{sum(map(len, held))} pieces are left of nothing"

    def _tidy(self) -> None:
        """Force compaction and collection to their ends, also of the pieces of those that were killed; what a node that
        was away still owes is only taken from it once it is seen to be back."""
        deadline = time.monotonic() + 60
        while not all(node["up"] for node in self.admin("GET", "/status")["nodes"]):
            assert time.monotonic() < deadline, "a node did not come back"
            time.sleep(0.2)
        for worker in (*TIDY, *TIDY):
            self.admin("POST", f"/workers/{worker}/run")


class VersionedRig(Rig):
    """The same with a bucket that keeps versions."""

    history: Versions

    def new_history(self) -> Versions:
        return Versions()

    def make_bucket(self, client: Any) -> None:
        super().make_bucket(client)
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})

    def new_load(self, seed: int, threads: int) -> VersionedLoad:
        return VersionedLoad(self.server, self.history, seed=seed, bucket=BUCKET, threads=threads)

    def settle(self) -> Versions:
        return settle_versions(self.server, BUCKET, self.history)


async def _audit(server: LiveServer) -> None:
    catalog: Catalog = await LmdbCatalog.open(server.data / "catalog", clock=SystemClock())
    try:
        row = await load(catalog)
        assert row is not None
        await audit(catalog, dict(zip(row.node_ids, _held(server), strict=True)))
    finally:
        await catalog.close()


def _held(server: LiveServer) -> list[set[bytes]]:
    """The pieces on each node. Raises AssertionError for a file that is neither piece nor marker."""
    held = []
    for number in range(1, NODES + 1):
        folder = server.nodes / str(number)
        names = {path.name for path in folder.rglob("*") if path.is_file() and path.name != "node.marker"}
        strange = {name for name in names if not _PIECE.fullmatch(name)}
        assert not strange, f"left on node {number}: {strange}"
        held.append({name.encode() for name in names if not is_snapshot_name(name)})
    return held
