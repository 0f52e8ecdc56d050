"""The races on real parts: the lmdb catalog, six disk nodes, threads, the machine's clock.

A schedule that the explorer walked is replayed as far as real parts allow: each actor still stops before it opens a
snapshot or a transaction and before it asks a node, and goes on in the recorded order. Commits and what threads do in
between find their own order, so the same schedule is a different run each time: that is wanted here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

from backends.disk import DiskBackend, NodeMarker, initialise
from catalog.interface import Catalog, Change, Reader, Row, Transaction, View
from catalog.lmdb_engine.catalog import LmdbCatalog
from core.clock import SystemClock
from tests.races.explorer import ACTOR, Scripted
from tests.races.explorer import Scheduler as ModelScheduler
from tests.races.race import NODES, Race
from tests.races.stepped import SteppedBackend
from tests.races.world import World

T = TypeVar("T")

#: Seconds that the next in line gets to arrive at a step before it is passed over: it may wait for another actor.
_PATIENCE = 0.02
_KEY = b"k" * 32


class LiveScheduler(ModelScheduler):
    """Lets actors pass their steps in the order of a recorded schedule; when that is at its end, everybody."""

    def __init__(self, schedule: Sequence[str]) -> None:
        super().__init__(Scripted(schedule))
        self._order = deque(schedule)
        self._stopped: dict[str, deque[asyncio.Future[None]]] = {}
        self._arrived = asyncio.Event()
        self.followed = self.passed_over = 0

    async def step(self, label: str) -> None:
        actor = ACTOR.get()
        if not actor or not self._order:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopped.setdefault(actor, deque()).append(future)
        self._arrived.set()
        await future

    async def conduct(self) -> None:
        """Runs beside the actors until the schedule is at its end."""
        while self._order:
            if await self._wait_for(self._order[0]):
                future = self._stopped[self._order[0]].popleft()
                if not future.done():
                    future.set_result(None)
                self.followed += 1
            else:
                self.passed_over += 1
            self._order.popleft()
            await asyncio.sleep(0)
        for futures in self._stopped.values():
            for future in futures:
                if not future.done():
                    future.set_result(None)

    async def _wait_for(self, actor: str) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE
        while not self._stopped.get(actor):
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._arrived.wait()
            except TimeoutError:
                return False
        return True


class GatedCatalog:
    """The lmdb catalog with a step before every read and transaction."""

    def __init__(self, inner: LmdbCatalog, scheduler: LiveScheduler) -> None:
        self._inner, self._scheduler = inner, scheduler
        self.exclusive, self.local = inner.exclusive, inner.local

    @property
    def known_sequence(self) -> int:
        return self._inner.known_sequence

    async def read(self, function: Callable[[Reader], Awaitable[T]], *, long: bool = False) -> T:
        await self._scheduler.step("read")
        return await self._inner.read(function, long=long)

    def view(self) -> AbstractAsyncContextManager[View]:
        return self._inner.view()

    async def transact(self, function: Callable[[Transaction], Awaitable[T]]) -> T:
        await self._scheduler.step("transact")
        return await self._inner.transact(function)

    async def sequence(self) -> int:
        return await self._inner.sequence()

    async def changes(self, after: int, *, limit: int = 1000) -> list[Change]:
        return await self._inner.changes(after, limit=limit)

    async def wait_changes(self, after: int) -> int:
        return await self._inner.wait_changes(after)

    def export(self, *, after: bytes = b"") -> AsyncGenerator[list[Row], None]:
        return self._inner.export(after=after)

    async def load(self, rows: Sequence[Row], *, sequence: int) -> None:
        await self._inner.load(rows, sequence=sequence)

    async def close(self) -> None:
        await self._inner.close()


async def _live_world(race: Race, scheduler: LiveScheduler, folder: Path) -> World:
    clock = SystemClock()
    inner = await LmdbCatalog.open(folder / "catalog", clock=clock)
    backends = []
    for number in range(1, NODES + 1):
        marker = NodeMarker(bytes([number]) * 16, b"d" * 16)
        path = folder / "nodes" / str(number)
        initialise(path, marker, _KEY)
        disk = DiskBackend(path, marker=marker, key=_KEY, floor=1 << 20)
        backends.append(SteppedBackend(disk, scheduler, race.node_steps, f"node {number}"))
    catalog: Catalog = GatedCatalog(inner, scheduler)
    return World(catalog, backends, clock, race.classes)


def replayable(schedule: Sequence[str], labels: Sequence[str]) -> list[str]:
    """A model's schedule without the steps that real parts don't have."""
    return [actor for actor, label in zip(schedule, labels, strict=True) if label != "commit"]


async def replay(race: Race, schedule: Sequence[str], folder: Path) -> LiveScheduler:
    """One run on real parts, with the same checks as in the model."""
    scheduler = LiveScheduler(schedule)
    race.world = await _live_world(race, scheduler, folder)
    try:
        await race.world.open(race.gateways)
        await race.before()

        async def actor(name: str, function: Callable[[], Awaitable[None]]) -> None:
            ACTOR.set(name)
            await scheduler.step("begin")
            await function()

        conductor = asyncio.create_task(scheduler.conduct())
        async with asyncio.TaskGroup() as group:
            for name, function in race.actors().items():
                group.create_task(actor(name, function), name=name)
        await conductor
        await race.check()
    finally:
        await race.world.catalog.close()
        for backend in race.world.backends:
            await backend.close()
    return scheduler
