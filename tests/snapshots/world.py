"""A catalog with snapshots on six nodes in memory."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from backends.interface import Backend
from backends.memory import MemoryBackend
from catalog.interface import Catalog, Reader, Transaction
from catalog.keys import prefix_end
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.prefixes import ENGINE
from core.clock import SystemClock
from core.workers import WorkerState
from engine.keyring import LocalKeyWrapper
from engine.placement import LocalPlacer
from engine.ports import Node
from engine.snapshots.chains import RootKeys
from engine.snapshots.keys import SnapshotKeys
from engine.snapshots.restore import Progress, Restored, restore_folder
from engine.snapshots.rows import StateRow
from engine.snapshots.survey import Source
from engine.snapshots.worker import SnapshotLimits, SnapshotWorker, state_of

DEPLOYMENT = b"d" * 16
ROOT = bytes(range(32))


def keys_of(root: bytes) -> SnapshotKeys:
    return SnapshotKeys(LocalKeyWrapper(root).derive)


class ShiftedClock(SystemClock):
    """A clock that a test can put forward, and whose time of day it can set back."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._back = 0.0

    def set_back(self, seconds: float) -> None:
        self._back += seconds

    def now_us(self) -> int:
        return super().now_us() + int((self.ahead - self._back) * 1e6)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class SnapshotWorld:
    """One gateway's snapshots. `rows` is what the catalog should hold under ENGINE, as `change` wrote it."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        backends: Sequence[Backend] = (),
        limits: SnapshotLimits | None = None,
        seed: int = 0,
        domains: int = 6,
    ) -> None:
        self.catalog = catalog
        self.random = random.Random(seed)
        self.rows: dict[bytes, bytes] = {}
        self.clock = ShiftedClock()
        self.backends = list(backends) or [MemoryBackend() for _ in range(6)]
        self.nodes = [
            Node(bytes([number]) * 16, f"node-{number}", f"domain-{number % domains}", backend)
            for number, backend in enumerate(self.backends, 1)
        ]
        self.placer = LocalPlacer(self.nodes)
        self.root = ROOT
        self.limits = limits or SnapshotLimits(every=0.0)
        self.worker = self.new_worker()

    def new_worker(self) -> SnapshotWorker:
        return SnapshotWorker(
            self.catalog,
            self.placer,
            self.clock,
            deployment=DEPLOYMENT,
            root=lambda: RootKeys(LocalKeyWrapper(self.root).key_id, keys_of(self.root)),
            leaving=lambda: {node.id for node in self.nodes if self.placer.leaving(node.id)},
            limits=self.limits,
        )

    async def open(self) -> SnapshotWorld:
        for backend in self.backends:
            await backend.open()
        return self

    async def change(self, count: int = 10, *, size: int = 100, keys: int = 1000) -> None:
        """Put some rows and delete some."""
        plan: dict[bytes, bytes | None] = {}
        for _ in range(count):
            key = ENGINE + b"%06d" % self.random.randrange(keys)
            plan[key] = None if self.random.random() < 0.2 else self.random.randbytes(self.random.randrange(size))
        await self.put(plan)

    async def put(self, plan: Mapping[bytes, bytes | None]) -> None:
        """Put these rows in one transaction; None deletes."""

        async def write(txn: Transaction) -> None:
            for key, value in plan.items():
                if value is None:
                    txn.delete(key)
                else:
                    txn.put(key, value)

        await self.catalog.transact(write)
        for key, value in plan.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value

    async def settle(self) -> None:
        """Turns until there is nothing to do."""
        self.worker.hasten()
        for _ in range(10_000):
            if await self.worker.turn() is not WorkerState.BUSY:
                return
        raise AssertionError("the worker never ends")

    async def state(self) -> StateRow:
        return await state_of(self.catalog)

    def sources(self, without: Sequence[int] = ()) -> list[Source]:
        return [Source(node.name, node.backend) for number, node in enumerate(self.nodes, 1) if number not in without]

    async def restore(
        self, folder: Path, *, without: Sequence[int] = (), root: bytes = ROOT, progress: Progress | None = None
    ) -> tuple[Restored, dict[bytes, bytes]]:
        """Restore into `folder`; what was told and the rows under ENGINE."""
        told = await restore_folder(self.sources(without), keys_of(root), DEPLOYMENT, folder, progress)
        return told, await rows_of(folder)


async def rows_in(catalog: Catalog) -> dict[bytes, bytes]:
    """All rows under ENGINE."""

    async def scan(reader: Reader) -> list[tuple[bytes, bytes]]:
        return await reader.scan(ENGINE, prefix_end(ENGINE), limit=1_000_000)

    return dict(await catalog.read(scan))


async def rows_of(folder: Path) -> dict[bytes, bytes]:
    """All rows under ENGINE of the catalog in a folder."""
    catalog = await LmdbCatalog.open(folder)
    try:
        return await rows_in(catalog)
    finally:
        await catalog.close()


def names_on(world: SnapshotWorld) -> set[str]:
    """What pieces there are on the world's nodes."""
    found: set[str] = set()
    for backend in world.backends:
        assert isinstance(backend, MemoryBackend)
        found.update(backend._pieces)
    return found


def chains_on(world: SnapshotWorld) -> set[int]:
    """Chains under the world's root key that nodes hold something of."""
    names = (keys_of(world.root).read_name(name) for name in names_on(world))
    return {name.chain for name in names if name is not None}
