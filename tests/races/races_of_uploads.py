"""Multipart uploads, and the objects that they became."""

from __future__ import annotations

from engine.errors import (
    NoSuchUpload,
)
from tests.races.race import LARGE, SMALL, Actors, Race
from tests.races.world import value


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
