"""The races that the design names. Each is a few requests and workers that must not harm each other in any order."""

from __future__ import annotations

import contextlib
from typing import ClassVar

from catalog.errors import EpochLost
from catalog.interface import Reader
from catalog.keys import prefix_end
from engine.classes import StorageClass, StorageClasses
from engine.errors import BucketNotEmpty, NoSuchBucket, NoSuchUpload, Unavailable
from engine.layout_data import SEGMENT
from engine.rebuild import rebuild_segment
from engine.records_data import SEGMENT_ROW
from engine.types import WriteCondition
from tests.races.race import LARGE, SMALL, Actors, Race
from tests.races.world import Gateway, etag, value

CREATE = WriteCondition(absent=True)


class PausedGateway(Race):
    """A gateway is declared dead and its pieces are collected while it writes: it must not commit onto them."""

    gateways = 2
    node_steps = frozenset({"list", "delete"})

    async def before(self) -> None:
        await self.world.gateways[0].put(self.world.bucket, "old", value("old", SMALL))
        self.world.gateways[0].mortal()

    def actors(self) -> Actors:
        paused, other = self.world.gateways
        bucket = self.world.bucket

        async def small() -> None:
            await paused.put(bucket, "small", value("small", SMALL))

        async def large() -> None:
            await paused.put(bucket, "large", value("large", LARGE))

        async def reap() -> None:
            await other.epochs.mark_dead(paused.epochs.epoch)
            await other.collect()

        return {"large": large, "reap": reap, "small": small}


class PausedCompaction(Race):
    """The same to a gateway that is compacting and collecting."""

    gateways = 2
    node_steps = frozenset({"list", "delete"})

    async def before(self) -> None:
        first = self.world.gateways[0]
        for name in ("a", "b"):
            await first.put(self.world.bucket, name, value(name, SMALL))

    def actors(self) -> Actors:
        paused, other = self.world.gateways

        async def compact() -> None:
            with contextlib.suppress(EpochLost):
                await paused.compact()

        async def reap() -> None:
            await other.epochs.mark_dead(paused.epochs.epoch)
            await other.collect()

        return {"compact": compact, "reap": reap}


class HeadMovedAndBack(Race):
    """A key goes from A to B and back to A while somebody deletes "the A" that was seen before."""

    gateways = 2

    async def before(self) -> None:
        await self.world.gateways[0].put(self.world.bucket, "key", value("A", SMALL))

    def actors(self) -> Actors:
        first, second = self.world.gateways
        bucket = self.world.bucket

        async def move() -> None:
            await first.put(bucket, "key", value("B", SMALL))
            await first.put(bucket, "key", value("A", SMALL))

        async def late() -> None:
            await second.delete(bucket, "key", condition=WriteCondition(etag=etag(value("A", SMALL))))

        async def collect() -> None:
            await second.collect()

        return {"collect": collect, "late": late, "move": move}


class PieceMovedAndBack(Race):
    """A piece moves from one node to another and back, while two collectors still have its first deletion before
    them."""

    gateways = 2
    node_steps = frozenset({"delete"})
    classes = StorageClasses({"STANDARD": StorageClass.of("STANDARD", "2+2")})
    segment: bytes

    async def before(self) -> None:
        first = self.world.gateways[0]
        await first.put(self.world.bucket, "key", value("key", LARGE))
        self.segment = next(iter(await self._placements()))

    async def _placements(self) -> dict[bytes, list[bytes]]:
        async def look(reader: Reader) -> list[tuple[bytes, bytes]]:
            return await reader.scan(SEGMENT, prefix_end(SEGMENT), limit=100)

        return {
            key[len(SEGMENT) :]: [piece.node for piece in SEGMENT_ROW.decode(raw).pieces]
            for key, raw in await self.world.catalog.read(look)
        }

    async def _move(self, gateway: Gateway, target: bytes) -> None:
        """Rebuild piece 0 with only one node to go to."""
        for node in gateway.placer.nodes():
            gateway.placer.set_up(node.id, node.id == target or node.id in self.holders)
        # Refused where the name that is to be written is there still: see the mutation that gives one name to all.
        with contextlib.suppress(Unavailable):
            await rebuild_segment(gateway.bodies, self.segment, also=[0])
        for node in gateway.placer.nodes():
            gateway.placer.set_up(node.id, True)

    def actors(self) -> Actors:
        mover, other = self.world.gateways
        self.holders: list[bytes] = []

        async def move() -> None:
            placed = (await self._placements())[self.segment]
            self.holders = placed[1:]
            free = next(node.id for node in mover.placer.nodes() if node.id not in placed)
            await self._move(mover, free)
            await self._move(mover, placed[0])

        async def collect() -> None:
            await mover.collect()

        async def collect_too() -> None:
            await other.collect()

        return {"collect": collect, "collect too": collect_too, "move": move}


class CopyDeleteCompact(Race):
    """A copy of a key that is being deleted, while its pack is merged with another and the dead is collected."""

    gateways = 2
    node_steps = frozenset({"delete"})

    async def before(self) -> None:
        first = self.world.gateways[0]
        for name in ("source", "beside"):
            await first.put(self.world.bucket, name, value(name, SMALL))

    def actors(self) -> Actors:
        first, second = self.world.gateways
        bucket = self.world.bucket

        async def copy() -> None:
            await first.copy(bucket, "source", "target")
            await first.get(bucket, "target")

        async def delete() -> None:
            await second.delete(bucket, "source")

        async def compact() -> None:
            await first.compact()

        async def collect() -> None:
            await second.collect()

        return {"collect": collect, "compact": compact, "copy": copy, "delete": delete}


class TwoCompactions(Race):
    """Two gateways merge the same packs."""

    gateways = 2
    node_steps = frozenset({"delete"})

    async def before(self) -> None:
        first = self.world.gateways[0]
        for name in ("a", "b", "c"):
            await first.put(self.world.bucket, name, value(name, SMALL))

    def actors(self) -> Actors:
        first, second = self.world.gateways

        async def compact() -> None:
            await first.compact()

        async def compact_too() -> None:
            await second.compact()
            await second.collect()

        async def delete() -> None:
            await first.delete(self.world.bucket, "a")

        return {"compact": compact, "compact too": compact_too, "delete": delete}


class CopyOfMultipart(Race):
    """A multipart object is copied and deleted while its manifest may be reclaimed."""

    async def before(self) -> None:
        gateway, bucket = self.world.gateways[0], self.world.bucket
        upload = await gateway.upload(bucket, "source")
        parts = [await gateway.part(bucket, "source", upload, n, value(f"part{n}", SMALL)) for n in (1, 2)]
        await gateway.complete(bucket, "source", upload, [part for part in parts if part])

    def actors(self) -> Actors:
        gateway, bucket = self.world.gateways[0], self.world.bucket

        async def copy() -> None:
            await gateway.copy(bucket, "source", "target")
            await gateway.get(bucket, "target")

        async def delete() -> None:
            await gateway.delete(bucket, "source")

        async def collect() -> None:
            await gateway.collect()

        return {"collect": collect, "copy": copy, "delete": delete}


class LongRead(Race):
    """Objects are read slowly while they are overwritten, compacted by another gateway and collected."""

    gateways = 2
    node_steps = frozenset({"get", "delete"})
    relocations: ClassVar[int] = 0

    async def before(self) -> None:
        first, second = self.world.gateways
        for name in ("packed", "beside"):
            await first.put(self.world.bucket, name, value(name, SMALL))
        await first.put(self.world.bucket, "large", value("large", LARGE))
        await second.get(self.world.bucket, "packed")  # so that it remembers where the body is

    def actors(self) -> Actors:
        first, second = self.world.gateways
        bucket = self.world.bucket

        async def read() -> None:
            await second.get(bucket, "packed")
            await second.get(bucket, "large")

        async def overwrite() -> None:
            await first.put(bucket, "large", value("new", SMALL))
            await first.delete(bucket, "packed")

        async def clean() -> None:
            await first.compact()
            await first.collect()

        return {"clean": clean, "overwrite": overwrite, "read": read}

    async def after(self) -> None:
        LongRead.relocations += self.world.gateways[1].bodies.counters.relocations


class LatePart(Race):
    """A part was overwritten, and the first attempt's retry comes in late: beside the new one, and the completion."""

    node_steps = frozenset()

    async def before(self) -> None:
        gateway, bucket = self.world.gateways[0], self.world.bucket
        self.upload = await gateway.upload(bucket, "key")
        self.first = await gateway.part(bucket, "key", self.upload, 1, value("first", SMALL))

    def actors(self) -> Actors:
        gateway, bucket = self.world.gateways[0], self.world.bucket

        async def overwrite() -> None:
            part = await gateway.part(bucket, "key", self.upload, 1, value("second", LARGE))
            if part:
                await gateway.complete(bucket, "key", self.upload, [part])
                await gateway.get(bucket, "key")

        async def retry() -> None:
            await gateway.part(bucket, "key", self.upload, 1, value("first", SMALL))

        async def collect() -> None:
            await gateway.collect()

        return {"collect": collect, "overwrite": overwrite, "retry": retry}

    async def after(self) -> None:
        gateway, bucket = self.world.gateways[0], self.world.bucket
        try:
            await gateway.store.abort_upload(bucket, "key", self.upload)
        except NoSuchUpload:
            assert await gateway.get(bucket, "key") is not None


class CompleteOrAbort(Race):
    """Of completion and abortion of an upload one wins, and neither harms what the other left."""

    gateways = 2

    async def before(self) -> None:
        gateway, bucket = self.world.gateways[0], self.world.bucket
        await gateway.put(bucket, "key", value("before", SMALL))
        self.upload = await gateway.upload(bucket, "key")
        self.parts = [await gateway.part(bucket, "key", self.upload, n, value(f"part{n}", SMALL)) for n in (1, 2)]
        self.completed = self.aborted = False

    def actors(self) -> Actors:
        first, second = self.world.gateways
        bucket = self.world.bucket

        async def complete() -> None:
            done = await first.complete(bucket, "key", self.upload, [part for part in self.parts if part])
            self.completed = done is not None
            await first.get(bucket, "key")

        async def abort() -> None:
            try:
                await second.store.abort_upload(bucket, "key", self.upload)
                self.aborted = True
            except NoSuchUpload:
                pass

        async def collect() -> None:
            await second.collect()

        return {"abort": abort, "collect": collect, "complete": complete}

    async def after(self) -> None:
        assert self.completed != self.aborted, "exactly one of completion and abortion wins"


class Creators(Race):
    """Of several creators with If-None-Match one wins; an overwriter with If-Match replaces what it saw or nothing."""

    gateways = 2

    def actors(self) -> Actors:
        first, second = self.world.gateways
        bucket = self.world.bucket
        self.winners: list[str] = []

        async def create(gateway: Gateway, name: str) -> None:
            if await gateway.put(bucket, "key", value(name, 100), condition=CREATE):
                self.winners.append(name)

        async def one() -> None:
            await create(first, "one")

        async def two() -> None:
            await create(second, "two")

        async def three() -> None:
            await create(second, "three")
            await second.put(bucket, "key", value("four", 100), condition=WriteCondition(etag=etag(value("one", 100))))

        return {"one": one, "three": three, "two": two}

    async def after(self) -> None:
        assert len(self.winners) == 1, f"{self.winners} were all created"


class DeletedBucket(Race):
    """A bucket is deleted while an object is put into it: one of the two is refused."""

    gateways = 2

    def actors(self) -> Actors:
        first, second = self.world.gateways
        bucket = self.world.bucket
        self.put = self.deleted = False

        async def put() -> None:
            try:
                await first.put(bucket, "key", value("key", SMALL))
                self.put = True
            except NoSuchBucket:
                pass

        async def delete() -> None:
            try:
                await second.store.delete_bucket(bucket)
                self.deleted = True
            except BucketNotEmpty:
                pass

        async def collect() -> None:
            await first.collect()

        return {"collect": collect, "delete": delete, "put": put}

    async def after(self) -> None:
        assert self.put != self.deleted, "an acknowledged object lies in a bucket that is gone"
