"""A gateway that is declared dead while it works."""

from __future__ import annotations

import contextlib

from catalog.errors import EpochLost
from tests.races.race import LARGE, SMALL, Actors, Race
from tests.races.world import value


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
