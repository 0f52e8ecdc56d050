"""Gateways that share a catalog and six nodes, what their clients saw, and what must hold in the end."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from backends.interface import Backend
from catalog.epochs import Epochs
from catalog.errors import EpochLost
from catalog.interface import Catalog
from core.clock import Clock
from core.workers import Worker, WorkerState
from engine.bodies.store import BodySettings, BodyStore
from engine.classes import StorageClasses
from engine.collection import CollectionWorker
from engine.compaction import CompactionWorker
from engine.errors import (
    EngineError,
    InvalidPart,
    InvalidPartOrder,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    PreconditionFailed,
    Unavailable,
)
from engine.keyring import Keyring, LocalKeyWrapper
from engine.placement import LocalPlacer
from engine.ports import Node
from engine.store import ObjectStore
from engine.types import (
    UNCONDITIONAL,
    Bucket,
    CompletePart,
    ObjectAttributes,
    ObjectInfo,
    Outcome,
    Part,
    WriteCondition,
)
from tests.harness.linearizability import Applied, Operation, State, check
from tests.races.audit import audit

T = TypeVar("T")

OWNER = "ab" * 32
BUCKET = "bucket"
ABSENT: State = None
_TURNS = 500


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


def etag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def value(name: str, size: int = 5000) -> bytes:
    """Recognisable bytes; 5,000 of them go into a pack."""
    return (name.encode() * (size // len(name) + 1))[:size]


def conclude(parts: Sequence[Part]) -> Outcome:
    joined = b"".join(bytes.fromhex(part.etag) for part in parts)
    return Outcome(f"{etag(joined)}-{len(parts)}")


class Clients:
    """What the clients of all gateways saw, per key."""

    def __init__(self) -> None:
        self._ticks = itertools.count()
        self.operations: dict[str, list[Operation]] = {}
        self.contents: dict[str, bytes] = {}  # by ETag, of everything that was written

    async def run(
        self,
        key: str,
        name: str,
        step: Callable[[State], Applied | None],
        call: Awaitable[T],
        *,
        refused: dict[type[EngineError], Callable[[State], Applied | None]] | None = None,
    ) -> T | None:
        """Do and record one operation. `refused` tells for a refusal in which states it is right; any other is an
        error."""
        start = float(next(self._ticks))
        try:
            result = await call
        except EngineError as error:
            for kind, right in (refused or {}).items():
                if isinstance(error, kind):
                    self._add(key, Operation(f"{name}: {kind.__name__}", start, right, float(next(self._ticks))))
                    return None
            raise
        self._add(key, Operation(name, start, step, float(next(self._ticks))))
        return result

    def _add(self, key: str, operation: Operation) -> None:
        self.operations.setdefault(key, []).append(operation)

    def assert_linearizable(self) -> None:
        for key, operations in sorted(self.operations.items()):
            verdict = check(operations, ABSENT)
            assert verdict is None, f"{key}: {verdict}"


class Gateway:
    """One gateway process's engine."""

    def __init__(self, name: str, catalog: Catalog, clock: Clock, clients: Clients) -> None:
        self.name, self.catalog, self.clock, self.clients = name, catalog, clock, clients
        #: Refusals that say nothing of a key's state: Unavailable, once this gateway may be declared dead.
        self.excused: dict[type[EngineError], Callable[[State], Applied | None]] = {}
        self.peers: list[Gateway] = []

    async def open(self, backends: Sequence[Backend], classes: StorageClasses | None = None) -> Gateway:
        nodes = [
            Node(bytes([number]) * 16, f"node-{number}", f"domain-{number}", backend)
            for number, backend in enumerate(backends, 1)
        ]
        self.epochs = await Epochs.register(self.catalog, self.clock, alone=False)
        self.placer = LocalPlacer(nodes, monotonic=self.clock.monotonic)
        self.bodies = BodyStore(
            self.catalog, self.epochs, self.placer, classes=classes, settings=BodySettings(threads=2)
        )
        self.keyring = await Keyring.open(self.catalog, LocalKeyWrapper(b"r" * 32))
        self.store = ObjectStore(self.catalog, self.bodies, self.keyring, self.clock)
        self.collection = CollectionWorker(self.bodies)
        self.compaction = CompactionWorker(self.bodies)
        (self.reclaim,) = self.store.workers()
        return self

    async def close(self) -> None:
        await self.bodies.close()

    # What clients do. All of it is recorded.

    async def put(
        self, bucket: Bucket, key: str, data: bytes, *, condition: WriteCondition = UNCONDITIONAL
    ) -> ObjectInfo | None:
        tag = self._written(data)

        def step(state: State) -> Applied | None:
            if condition.absent and state is not ABSENT:
                return None
            if condition.etag and state != condition.etag:
                return None
            return Applied(tag)

        def refused(state: State) -> Applied | None:
            right = state is not ABSENT if condition.absent else state != condition.etag
            return Applied(state) if right else None

        return await self.clients.run(
            key,
            f"{self.name} put {tag[:6]}",
            step,
            self.store.put_object(
                bucket,
                key,
                chunks(data),
                attributes=ObjectAttributes(owner=OWNER),
                finish=lambda _: Outcome(tag),
                condition=condition,
            ),
            refused={PreconditionFailed: refused, NoSuchKey: _is_absent, **self.excused},
        )

    def _written(self, data: bytes) -> str:
        tag = etag(data)
        self.clients.contents[tag] = data
        return tag

    async def get(self, bucket: Bucket, key: str) -> str | None:
        """Read all of it, which must be the bytes that its ETag was given for. Returns the ETag."""
        seen: list[str] = []

        async def read() -> None:
            async with await self.store.open_object(bucket, key) as opened:
                data = b"".join([bytes(view) async for view in opened.read(0, opened.info.size)])
                assert data == self.clients.contents[opened.info.etag], f"{key}: wrong bytes"
                seen.append(opened.info.etag)

        await self.clients.run(
            key,
            f"{self.name} get",
            lambda state: Applied(state) if state == seen[0] else None,
            read(),
            refused={NoSuchKey: _is_absent},
        )
        return seen[0] if seen else None

    async def delete(self, bucket: Bucket, key: str, *, condition: WriteCondition = UNCONDITIONAL) -> None:
        def step(state: State) -> Applied | None:
            return Applied(ABSENT) if not condition.etag or state in (condition.etag, ABSENT) else None

        def refused(state: State) -> Applied | None:
            return Applied(state) if state != condition.etag else None

        await self.clients.run(
            key,
            f"{self.name} delete",
            step,
            self.store.delete_object(bucket, key, condition=condition, owner=OWNER),
            refused={PreconditionFailed: refused, NoSuchKey: refused},
        )

    async def copy(self, bucket: Bucket, source: str, target: str) -> None:
        """Copy a key. What is copied is what was opened: the target's operation is a write of that."""
        try:
            opened = await self.store.open_object(bucket, source)
        except NoSuchKey:
            return
        async with opened:
            tag = opened.info.etag
            await self.clients.run(
                target,
                f"{self.name} copy {tag[:6]}",
                lambda _: Applied(tag),
                self.store.copy_object(opened, bucket, target, attributes=ObjectAttributes(owner=OWNER)),
                refused=self.excused,
            )

    async def upload(self, bucket: Bucket, key: str) -> str:
        made = await self.store.create_upload(bucket, key, attributes=ObjectAttributes(owner=OWNER), initiator=OWNER)
        return made.upload_id

    async def part(self, bucket: Bucket, key: str, upload: str, number: int, data: bytes) -> Part | None:
        """Store a part; None if the upload has ended."""
        tag = self._written(data)
        try:
            return await self.store.upload_part(
                bucket, key, upload, number, chunks(data), finish=lambda _: Outcome(tag)
            )
        except NoSuchUpload:
            return None

    async def complete(self, bucket: Bucket, key: str, upload: str, parts: Sequence[Part]) -> ObjectInfo | None:
        tag = conclude(parts).etag
        self.clients.contents[tag] = b"".join(self.clients.contents[part.etag] for part in parts)
        return await self.clients.run(
            key,
            f"{self.name} complete {tag[:6]}",
            lambda _: Applied(tag),
            self.store.complete_upload(
                bucket,
                key,
                upload,
                [CompletePart(part.number, part.etag) for part in parts],
                conclude=conclude,
                minimum_part=1,
            ),
            # Refused for reasons of the upload, whatever the key holds.
            refused={NoSuchUpload: Applied, InvalidPart: Applied, InvalidPartOrder: Applied},
        )

    def mortal(self) -> None:
        """This gateway may be declared dead: from then on its writes answer Unavailable."""
        self.excused = {Unavailable: Applied}

    async def collect(self) -> None:
        """Reclaim and collect until there is nothing to do. A body, its segment and its pieces go in turns, and each
        waits until all peers have told, with their beats, that they have no older reads."""
        await drain(self.reclaim)
        for _ in range(3):
            for peer in self.peers:
                with contextlib.suppress(EpochLost):
                    await peer.epochs.beat()
            await drain(self.collection)

    async def compact(self) -> None:
        """Merge whatever can be merged."""
        self.compaction.force()
        await drain(self.compaction)


def _is_absent(state: State) -> Applied | None:
    return Applied(state) if state is ABSENT else None


async def drain(worker: Worker) -> None:
    for _ in range(_TURNS):
        if await worker.turn() is not WorkerState.BUSY:
            return
    raise AssertionError(f"the worker {worker.name} does not come to an end")


class World:
    """One catalog, six nodes, some gateways with one bucket between them."""

    def __init__(
        self,
        catalog: Catalog,
        backends: Sequence[Backend],
        clock: Clock,
        classes: StorageClasses | None = None,
    ) -> None:
        self.catalog, self.backends, self.clock, self.classes = catalog, backends, clock, classes
        self.clients = Clients()
        self.gateways: list[Gateway] = []

    async def open(self, gateways: int = 1) -> World:
        for backend in self.backends:
            await backend.open()
        for number in range(gateways):
            gateway = Gateway(f"g{number + 1}", self.catalog, self.clock, self.clients)
            self.gateways.append(await gateway.open(self.backends, self.classes))
        for gateway in self.gateways:
            gateway.peers = [peer for peer in self.gateways if peer is not gateway]
        self.bucket = await self.gateways[0].store.create_bucket(BUCKET, owner=OWNER)
        return self

    async def close(self) -> None:
        for gateway in self.gateways:
            await gateway.close()

    async def settle(self) -> None:
        """Everybody ends in order; then everything dead is collected by one last gateway, and all must add up."""
        for gateway in self.gateways:
            await gateway.bodies.close()
            await gateway.epochs.close()
        last = await Gateway("last", self.catalog, self.clock, self.clients).open(self.backends, self.classes)
        try:
            await self._read_all(last)
            self.clients.assert_linearizable()
            await last.collect()
            await last.compact()
            # A gateway that did not know that it was dead may have written after its epoch was swept and forgotten.
            last.collection.force()
            await last.collect()
            await self._read_all(last)
            self.clients.assert_linearizable()
            held = {
                bytes([number]) * 16: {entry.name.encode() async for entry in backend.list()}
                for number, backend in enumerate(self.backends, 1)
            }
            await audit(self.catalog, held)
        finally:
            await last.bodies.close()

    async def _read_all(self, gateway: Gateway) -> None:
        try:
            listing = await gateway.store.list_objects(await gateway.store.get_bucket(BUCKET))
        except NoSuchBucket:
            return
        found = set()
        for key in sorted(self.clients.operations):
            if await gateway.get(self.bucket, key) is not None:
                found.add(key)
        assert {one.key for one in listing.objects} == found, "the listing is not what is there"
