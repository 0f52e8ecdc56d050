"""An object store to test against, over a catalog of choice, and an auditor of its rows."""

from __future__ import annotations

import base64
import hashlib
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from backends.memory import MemoryBackend
from catalog.epochs import Epochs
from catalog.interface import Catalog, Reader
from catalog.keys import prefix_end, read_terminated
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.memory import MemoryCatalog
from catalog.postgres_engine.catalog import PostgresCatalog
from core.buffers import Source
from core.clock import SystemClock
from core.ids import new_id
from core.workers import WorkerState
from engine import layout, layout_data
from engine.bodies import Bodies
from engine.bodies.store import BodySettings, BodyStore
from engine.keyring import Keyring, LocalKeyWrapper
from engine.placement import LocalPlacer
from engine.ports import CommitObserver, Node
from engine.records import (
    EXTENTS_ROW,
    HEAD_ROW,
    LIST_ROW,
    MARKER,
    NULL,
    PART_ROW,
    UPLOAD_ROW,
    VERSION_ROW,
    Version,
    list_row,
)
from engine.store import ObjectStore
from engine.types import (
    UNCONDITIONAL,
    Bucket,
    CompletePart,
    ObjectAttributes,
    ObjectInfo,
    Outcome,
    Part,
    Versioning,
    WriteCondition,
)
from tests.catalog.clocks import ManualClock
from tests.harness.postgres_server import PostgresServer

OWNER = "ab" * 32


async def chunks(data: bytes, size: int = 1 << 16) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def conclude_parts(parts: Sequence[Part]) -> Outcome:
    """The ETag of a multipart object."""
    joined = b"".join(bytes.fromhex(part.etag) for part in parts)
    return Outcome(f"{hashlib.md5(joined).hexdigest()}-{len(parts)}")


def outcome_of(data: bytes) -> Outcome:
    checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return Outcome(hashlib.md5(data).hexdigest(), {"SHA256": checksum})


class World:
    """A store with short ways to say what tests say often."""

    def __init__(
        self, catalog: Catalog, bodies: Bodies, keyring: Keyring, observers: Sequence[CommitObserver] = ()
    ) -> None:
        self.catalog = catalog
        self.bodies = bodies
        self.clock = ManualClock()
        self.clock.jump_to_now()
        self.keyring = keyring
        self.store = ObjectStore(catalog, bodies, keyring, self.clock, observers)

    async def bucket(self, name: str = "bucket") -> Bucket:
        return await self.store.create_bucket(name, owner=OWNER)

    async def put(
        self,
        bucket: Bucket,
        key: str,
        data: bytes = b"",
        *,
        condition: WriteCondition = UNCONDITIONAL,
        attributes: ObjectAttributes | None = None,
        source: Source | None = None,
    ) -> ObjectInfo:
        return await self.store.put_object(
            bucket,
            key,
            chunks(data) if source is None else source,
            attributes=attributes or ObjectAttributes(owner=OWNER),
            finish=lambda _: outcome_of(data),
            condition=condition,
        )

    async def get(self, bucket: Bucket, key: str, version_id: str = "") -> bytes:
        async with await self.store.open_object(bucket, key, version_id) as opened:
            return b"".join([bytes(view) async for view in opened.read(0, opened.info.size)])

    async def upload(self, bucket: Bucket, key: str) -> str:
        made = await self.store.create_upload(bucket, key, attributes=ObjectAttributes(owner=OWNER), initiator=OWNER)
        return made.upload_id

    async def part(self, bucket: Bucket, key: str, upload_id: str, number: int, data: bytes) -> Part:
        return await self.store.upload_part(
            bucket, key, upload_id, number, chunks(data), finish=lambda _: outcome_of(data)
        )

    async def complete(
        self, bucket: Bucket, key: str, upload_id: str, parts: Sequence[Part], *, minimum_part: int = 1
    ) -> ObjectInfo:
        return await self.store.complete_upload(
            bucket,
            key,
            upload_id,
            [CompletePart(part.number, part.etag) for part in parts],
            conclude=conclude_parts,
            minimum_part=minimum_part,
        )

    async def multipart(self, bucket: Bucket, key: str, pieces: Sequence[bytes]) -> ObjectInfo:
        upload_id = await self.upload(bucket, key)
        parts = [await self.part(bucket, key, upload_id, i + 1, piece) for i, piece in enumerate(pieces)]
        return await self.complete(bucket, key, upload_id, parts)

    async def reclaim(self) -> int:
        """Run the reclaimer until it has nothing to do; returns its turns."""
        (worker,) = self.store.workers()
        turns = 0
        while await worker.turn() is WorkerState.BUSY:
            turns += 1
        return turns

    async def rows(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        async def look(reader: Reader) -> list[tuple[bytes, bytes]]:
            return await reader.scan(prefix, prefix_end(prefix), limit=1_000_000)

        return await self.catalog.read(look)

    async def alive_bodies(self) -> int:
        """Bodies and manifests that something refers to."""
        return len(await self.rows(layout_data.ALIVE))

    async def audit(self) -> None:
        """Prove that derived rows are exactly what the authoritative ones imply."""
        await _audit_listings(self)
        await _audit_references(self)


async def _audit_listings(world: World) -> None:
    older: dict[bytes, list[Version]] = defaultdict(list)
    for place, raw in await world.rows(layout.VERSION):
        older[place[layout.KIND : layout.KIND + 16]].append(VERSION_ROW.decode(raw).version)
    listed: dict[bytes, tuple[bytes, bytes, bytes]] = {}
    for place, raw in await world.rows(layout.LIST):
        bucket, key = place[layout.KIND : layout.KIND + 16], place[layout.KIND + 16 :]
        listed[layout.key_hash(bucket, key)] = (bucket, key, raw)
    others: dict[bytes, list[bytes]] = defaultdict(list)
    for place, raw in await world.rows(layout.VERSION_LIST):
        bucket = place[layout.KIND : layout.KIND + 16]
        key, _ = read_terminated(place, layout.KIND + 16)
        assert int.from_bytes(place[-8:], "big") ^ 0xFFFFFFFFFFFFFFFF == int.from_bytes(
            LIST_ROW.decode(raw).token[:8], "big"
        )
        others[layout.key_hash(bucket, key)].append(raw)
    heads = {place[layout.KIND :]: HEAD_ROW.decode(raw) for place, raw in await world.rows(layout.HEAD)}
    for hashed, head in heads.items():
        current, rest = head.current, older.pop(hashed, [])
        if current is None:
            assert not rest
            assert not head.null_order
        else:
            orders = [int.from_bytes(v.token[:8], "big") for v in (current, *rest)]
            assert orders == sorted(orders, reverse=True)
            assert len(set(orders)) == len(orders)
            assert head.order >= orders[0]
            nulls = [v for v in (current, *rest) if v.flags & NULL]
            assert len(nulls) <= 1
            assert head.null_order == (int.from_bytes(nulls[0].token[:8], "big") if nulls else 0)
        if current is not None and not current.flags & MARKER:
            assert listed.pop(hashed)[2] == list_row(current)
            expected = rest
        else:
            expected = [*([current] if current else []), *rest]
        assert others.pop(hashed, []) == [list_row(v) for v in expected]
    assert not older
    assert not listed
    assert not others


async def _audit_references(world: World) -> None:
    """Assumes that the reclaimer is idle."""
    assert not [place for place, _ in await world.rows(layout.RECLAIM) if place[10] == layout.RECLAIM_MANIFEST]
    expected: dict[bytes, set[bytes]] = defaultdict(set)
    versions = [VERSION_ROW.decode(raw).version for _, raw in await world.rows(layout.VERSION)]
    versions += [
        head.current
        for _, raw in await world.rows(layout.HEAD)
        if (head := HEAD_ROW.decode(raw)).current is not None and head.current is not None
    ]
    for version in versions:
        if version.body or version.manifest:
            expected[version.body or version.manifest].add(version.token)
    manifests = {version.manifest for version in versions if version.manifest}
    assert {place[layout.KIND :] for place, _ in await world.rows(layout.MANIFEST)} == manifests
    for kind, tail in ((layout.EXTENTS, 8), (layout.PARTS, 2)):
        assert {place[layout.KIND : -tail] for place, _ in await world.rows(kind)} == manifests
    for place, raw in await world.rows(layout.EXTENTS):
        manifest = place[layout.KIND : layout.KIND + 16]
        for extent in EXTENTS_ROW.decode(raw).extents:
            expected[extent.body].add(layout.part_referrer(manifest, extent.number))
    uploads = {place[layout.KIND :]: UPLOAD_ROW.decode(raw) for place, raw in await world.rows(layout.UPLOAD)}
    for place, raw in await world.rows(layout.PART):
        manifest, number = place[layout.KIND : -2], int.from_bytes(place[-2:], "big")
        assert uploads[manifest].completed is None
        for extent in PART_ROW.decode(raw).extents:
            expected[extent.body].add(layout.part_referrer(manifest, number))
    found: dict[bytes, set[bytes]] = defaultdict(set)
    for place, raw in await world.rows(layout_data.ALIVE):
        found[place[2:]] = {raw} if raw else set()
    for place, _ in await world.rows(layout_data.REFERENCE):
        found[place[2:18]].add(place[18:])
    assert found == expected
    queued = {place[layout.KIND :] for place, _ in await world.rows(layout_data.QUEUE_BODY)}
    assert not queued & found.keys(), "a live body is queued for collection"
    in_list = {layout.spread(place[-16:]) for place, _ in await world.rows(layout.UPLOAD_LIST)}
    assert in_list == {manifest for manifest, row in uploads.items() if row.completed is None}


@asynccontextmanager
async def memory_world(observers: Sequence[CommitObserver] = ()) -> AsyncIterator[World]:
    catalog = MemoryCatalog()
    async with catalog_world(catalog, observers) as world:
        yield world


@asynccontextmanager
async def postgres_world(server: PostgresServer, observers: Sequence[CommitObserver] = ()) -> AsyncIterator[World]:
    name = await server.new_database()
    try:
        catalog = await PostgresCatalog.open(server.url(name))
        async with catalog_world(catalog, observers) as world:
            yield world
    finally:
        await server.drop_database(name)


@asynccontextmanager
async def lmdb_world(folder: Path, observers: Sequence[CommitObserver] = ()) -> AsyncIterator[World]:
    catalog = await LmdbCatalog.open(folder)
    async with catalog_world(catalog, observers) as world:
        yield world


@asynccontextmanager
async def catalog_world(catalog: Catalog, observers: Sequence[CommitObserver] = ()) -> AsyncIterator[World]:
    keyring = await Keyring.open(catalog, LocalKeyWrapper(os.urandom(32)))
    epochs = await Epochs.register(catalog, SystemClock())
    nodes = [Node(new_id(), f"node{i}", f"domain{i}", MemoryBackend()) for i in range(6)]
    for node in nodes:
        await node.backend.open()
    bodies = BodyStore(catalog, epochs, LocalPlacer(nodes), settings=BodySettings(threads=2))
    await bodies.start()
    world = World(catalog, bodies, keyring, observers)
    await world.store.start()
    try:
        yield world
    finally:
        await world.store.close()
        await bodies.close()
        await catalog.close()


def versioned(state: Versioning) -> Callable[[Bucket], Bucket]:
    """A change for `update_bucket`."""
    return lambda bucket: replace(bucket, versioning=state)
