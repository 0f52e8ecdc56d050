"""Further races: repairs beside deletions, and the versions of one key."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from catalog.interface import Reader
from catalog.keys import prefix_end
from engine.errors import Damaged, IsDeleteMarker, NoSuchKey, NoSuchVersion, Unavailable
from engine.layout_data import SEGMENT
from engine.rebuild import rebuild_segment
from engine.types import Bucket, ObjectAttributes, Outcome, Versioning
from tests.races.race import LARGE, SMALL, Actors, Race
from tests.races.world import OWNER, Gateway, chunks, etag, value


class RepairsAndDeletion(Race):
    """Two gateways rebuild pieces of one segment while its object is deleted and collected."""

    gateways = 2
    node_steps = frozenset({"put", "delete"})

    async def before(self) -> None:
        await self.world.gateways[0].put(self.world.bucket, "key", value("key", LARGE))

        async def look(reader: Reader) -> list[tuple[bytes, bytes]]:
            return await reader.scan(SEGMENT, prefix_end(SEGMENT), limit=1)

        ((key, _),) = await self.world.catalog.read(look)
        self.segment = key[len(SEGMENT) :]

    def actors(self) -> Actors:
        first, second = self.world.gateways

        async def repair(gateway: Gateway, *pieces: int) -> None:
            # Too late: the pieces that it would read are deleted.
            with contextlib.suppress(Unavailable, Damaged):
                await rebuild_segment(gateway.bodies, self.segment, also=pieces)

        async def one() -> None:
            await repair(first, 0)

        async def two() -> None:
            await repair(second, 0, 5)

        async def delete() -> None:
            await first.delete(self.world.bucket, "key")
            await second.collect()

        return {"delete": delete, "repair": one, "repair too": two}

    async def after(self) -> None:
        for gateway in self.world.gateways:  # pieces of a rebuild that lost are thrown away by who wrote them
            await gateway.collection.turn()


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


class PutsBesideCompaction(Race):
    """A gateway compacts whatever it finds while another commits small bodies: no put is refused for that."""

    gateways = 2

    async def before(self) -> None:
        await self.world.gateways[0].put(self.world.bucket, "old", value("old", SMALL))

    def actors(self) -> Actors:
        first, second = self.world.gateways

        async def put(name: str) -> None:
            await first.put(self.world.bucket, name, value(name, SMALL))

        async def one() -> None:
            await put("one")

        async def two() -> None:
            await put("two")

        return {"compact": second.compact, "one": one, "two": two}


def _enabled(bucket: Bucket) -> Bucket:
    return replace(bucket, versioning=Versioning.ENABLED)
