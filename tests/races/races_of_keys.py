"""What one key holds: conditions, versions, and the bucket around it."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from engine.errors import (
    BucketNotEmpty,
    IsDeleteMarker,
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
)
from engine.types import Bucket, ObjectAttributes, Outcome, Versioning, WriteCondition
from tests.races.race import SMALL, Actors, Race
from tests.races.world import OWNER, Gateway, chunks, etag, value

CREATE = WriteCondition(absent=True)


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


class VersionsOfOneKey(Race):
    """Versions, delete markers and removals of named versions, on one key from two gateways."""

    gateways = 2

    async def before(self) -> None:
        first = self.world.gateways[0]
        self.versioned = await first.store.update_bucket(self.world.bucket, _enabled)
        self.oldest = await self._put(first, "oldest")
        self.acknowledged: dict[str, str] = {self.oldest: etag(value("oldest", SMALL))}
        self.removed: set[str] = set()

    async def _put(self, gateway: Gateway, name: str) -> str:
        data = value(name, SMALL)
        info = await gateway.store.put_object(
            self.versioned,
            "key",
            chunks(data),
            attributes=ObjectAttributes(owner=OWNER),
            finish=lambda _: Outcome(etag(data)),
        )
        return info.version_id

    def actors(self) -> Actors:
        first, second = self.world.gateways

        async def put(gateway: Gateway, name: str) -> None:
            self.acknowledged[await self._put(gateway, name)] = etag(value(name, SMALL))

        async def remove(gateway: Gateway, version: str) -> None:
            await gateway.store.delete_object(self.versioned, "key", version_id=version, owner=OWNER)
            self.removed.add(version)

        async def puts() -> None:
            await put(first, "one")
            await put(first, "two")

        async def marks() -> None:
            marker = await second.store.delete_object(self.versioned, "key", owner=OWNER)
            await put(second, "three")
            await remove(second, marker.version_id)

        async def removes() -> None:
            await remove(first, self.oldest)
            await first.collect()

        return {"marks": marks, "puts": puts, "removes": removes}

    async def after(self) -> None:
        """Exactly what was acknowledged and not removed is there, newest first, and reads back."""
        store = self.world.gateways[0].store
        listing = await store.list_versions(self.versioned)
        kept = self.acknowledged.keys() - self.removed
        assert {one.version_id for one in listing.versions} == kept
        orders = [one.version_id[:16] for one in listing.versions]
        assert orders == sorted(orders, reverse=True)
        for version in sorted(kept):
            async with await store.open_object(self.versioned, "key", version) as opened:
                data = b"".join([bytes(view) async for view in opened.read(0, opened.info.size)])
                assert etag(data) == self.acknowledged[version]
        with contextlib.suppress(NoSuchKey, NoSuchVersion, IsDeleteMarker):
            assert (await store.head_object(self.versioned, "key")).version_id == listing.versions[0].version_id
        for version in kept:
            await store.delete_object(self.versioned, "key", version_id=version, owner=OWNER)


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


def _enabled(bucket: Bucket) -> Bucket:
    return replace(bucket, versioning=Versioning.ENABLED)
