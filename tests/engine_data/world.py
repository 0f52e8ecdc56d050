"""Six disk nodes, an lmdb catalog and a body store in a temporary folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from backends.disk import DiskBackend, NodeMarker, initialise
from backends.interface import Backend
from catalog.epochs import Epochs
from catalog.interface import Reader, Transaction
from catalog.lmdb_engine.catalog import LmdbCatalog
from core.buffers import Buffer
from core.clock import SystemClock
from core.workers import Forceable, Worker, WorkerState
from engine import references
from engine.bodies import BodyRef
from engine.bodies.store import BodySettings, BodyStore
from engine.collection import CollectionWorker
from engine.compaction import CompactionWorker
from engine.layout_data import BODY, PACK, PACK_DEAD, QUEUE_BODY, SEGMENT, STAGED, prefix_end
from engine.placement import LocalPlacer
from engine.ports import Node
from engine.records_data import SEGMENT_ROW, SegmentRow
from engine.types import Outcome
from erasure.keys import body_key, new_key

MARKER_KEY = b"k" * 32
DEPLOYMENT = b"d" * 16


async def chunks(data: bytes, size: int = 65_536) -> AsyncIterator[Buffer]:
    """A source."""
    for place in range(0, len(data), size):
        yield data[place : place + size]


def no_outcome(length: int) -> Outcome:
    return Outcome(etag=str(length))


@dataclass
class Kept:
    """A committed body and what it takes to read it."""

    ref: BodyRef
    key: bytes
    data: bytes
    referrer: bytes


@dataclass
class World:
    """One gateway's data half."""

    folder: Path
    settings: BodySettings = field(default_factory=lambda: BodySettings(threads=2))
    wrap: dict[int, Callable[[Backend], Backend]] = field(default_factory=dict)

    async def open(self) -> World:
        self.backends: list[Backend] = []
        nodes = []
        self.pool = ThreadPoolExecutor(12)  # of one device, as a gateway has it
        for number in range(6):
            path = self.folder / "nodes" / str(number + 1)
            marker = NodeMarker(bytes([number + 1]) * 16, DEPLOYMENT)
            if not path.exists():
                initialise(path, marker, MARKER_KEY)
            backend: Backend = DiskBackend(path, marker=marker, key=MARKER_KEY, pool=self.pool, floor=1 << 20)
            await backend.open()
            wrap = self.wrap.get(number)
            if wrap is not None:
                backend = wrap(backend)
            self.backends.append(backend)
            nodes.append(Node(bytes([number + 1]) * 16, f"node-{number + 1}", f"domain-{number + 1}", backend))
        self.catalog = await LmdbCatalog.open(self.folder / "catalog", clock=SystemClock())
        self.epochs = await Epochs.register(self.catalog, SystemClock())
        self.placer = LocalPlacer(nodes)
        self.bodies = BodyStore(self.catalog, self.epochs, self.placer, settings=self.settings)
        await self.bodies.start()
        return self

    async def close(self) -> None:
        await self.bodies.close()
        await self.epochs.close()
        await self.catalog.close()
        for backend in self.backends:
            await backend.close()
        self.pool.shutdown()

    async def keep(self, data: bytes, *, storage_class: str = "STANDARD") -> Kept:
        """Store and commit a body with one reference."""
        content_key, referrer = new_key(), os.urandom(16)
        digest = hashlib.md5(usedforsecurity=False)
        stored = await self.bodies.store(
            chunks(data), content_key=content_key, storage_class=storage_class, digests=(digest,), finish=no_outcome
        )
        assert digest.digest() == hashlib.md5(data, usedforsecurity=False).digest()
        assert stored.length == len(data)

        async def refer(txn: Transaction) -> None:
            await references.add(txn, stored.id, referrer)

        await self.bodies.commit([stored], refer)
        return Kept(stored.ref, body_key(content_key, stored.id), data, referrer)

    async def read(self, kept: Kept, offset: int = 0, length: int | None = None) -> bytes:
        length = len(kept.data) - offset if length is None else length
        parts = [bytes(view) async for view in self.bodies.read(kept.ref, kept.key, offset, length)]
        return b"".join(parts)

    async def check(self, kept: Kept) -> None:
        assert await self.read(kept) == kept.data

    async def remove(self, kept: Kept) -> None:
        async def forget(txn: Transaction) -> None:
            if await references.remove(txn, kept.ref.id, kept.referrer):
                await self.bodies.release(txn, kept.ref.id)

        await self.catalog.transact(forget)

    async def segments(self) -> dict[bytes, SegmentRow]:
        async def scan(reader: Reader) -> Sequence[tuple[bytes, bytes]]:
            return await reader.scan(SEGMENT, prefix_end(SEGMENT), limit=10_000)

        rows = await self.catalog.read(scan)
        return {key[len(SEGMENT) :]: SEGMENT_ROW.decode(value) for key, value in rows}

    async def count(self, prefix: bytes) -> int:
        async def scan(reader: Reader) -> int:
            return len(await reader.scan(prefix, prefix_end(prefix), limit=100_000, keys_only=True))

        return await self.catalog.read(scan)

    async def packs(self) -> int:
        return await self.count(PACK)

    def files(self) -> list[Path]:
        """Every piece on every node."""
        return [path for path in (self.folder / "nodes").rglob("*") if path.is_file() and len(path.name) == 49]

    def piece_path(self, row: SegmentRow, index: int) -> Path:
        piece = row.pieces[index]
        name = piece.locator.decode()
        (path,) = (self.folder / "nodes" / str(piece.node[0])).rglob(name)
        return path


async def run(worker: Worker) -> None:
    """Until it has nothing to do, as an operator has it run."""
    if isinstance(worker, Forceable):
        worker.force()
    while await worker.turn() is WorkerState.BUSY:
        pass


async def emptied(world: World, kept: Sequence[Kept]) -> None:
    """Remove what is left: no file and no row of it may stay."""
    for each in kept:
        await world.remove(each)
    worker = CompactionWorker(world.bodies)
    for _ in range(2):
        await run(CollectionWorker(world.bodies))
        await run(worker)
    await run(CollectionWorker(world.bodies))
    assert world.files() == []
    for prefix in (BODY, PACK, PACK_DEAD, SEGMENT, STAGED, QUEUE_BODY):
        assert await world.count(prefix) == 0
