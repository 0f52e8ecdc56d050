"""Packs that are merged while their bodies are written, read, copied and deleted."""

from __future__ import annotations

from typing import ClassVar

from tests.races.race import LARGE, SMALL, Actors, Race
from tests.races.world import value


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
