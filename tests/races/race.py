"""What the races share: a scenario over a `World`, on the explorer's catalog or on real parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from unittest.mock import patch

from backends.memory import MemoryBackend
from engine.bodies import store as body_store
from engine.classes import StorageClasses
from tests.catalog.clocks import ManualClock
from tests.races.explorer import Scheduler
from tests.races.stepped import SteppedBackend, SteppedCatalog
from tests.races.world import World

Actors = Mapping[str, Callable[[], Awaitable[None]]]

NODES = 6
#: Bodies above this many bytes get segments of their own here, so that runs stay cheap.
PACKED = 6_000
SMALL, LARGE = 5_000, 9_000


class Race:
    """A scenario. Subclasses say how many gateways there are, which calls of nodes are steps, what is there before,
    who does what, and what must hold beside the audit."""

    gateways = 1
    node_steps: frozenset[str] = frozenset()
    classes: StorageClasses | None = None
    world: World

    async def before(self) -> None:
        """Runs undisturbed."""

    def actors(self) -> Actors:
        raise AssertionError("a race has actors")

    async def after(self) -> None:
        """Runs undisturbed when all actors ended, before everything is collected and audited."""

    async def make_world(self, scheduler: Scheduler) -> World:
        clock = ManualClock()
        backends = [
            SteppedBackend(MemoryBackend(), scheduler, self.node_steps, f"node {number + 1}") for number in range(NODES)
        ]
        return World(SteppedCatalog(scheduler, clock), backends, clock, self.classes)

    async def prepare(self, scheduler: Scheduler) -> Actors:
        self.world = await self.make_world(scheduler)
        await self.world.open(self.gateways)
        await self.before()
        return self.actors()

    async def check(self) -> None:
        await self.after()
        await self.world.settle()


@contextmanager
def small_packs() -> Iterator[None]:
    """Let bodies above PACKED bytes be segments."""
    with patch.object(body_store, "PACK_LIMIT", PACKED):
        yield
