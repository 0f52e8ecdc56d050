"""Pieces that move while somebody still deletes or needs them."""

from __future__ import annotations

import contextlib

from catalog.interface import Reader
from catalog.keys import prefix_end
from engine.classes import StorageClass, StorageClasses
from engine.errors import (
    Damaged,
    Unavailable,
)
from engine.layout_data import SEGMENT
from engine.rebuild import rebuild_segment
from engine.records_data import SEGMENT_ROW
from tests.races.race import LARGE, Actors, Race
from tests.races.world import Gateway, value


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
