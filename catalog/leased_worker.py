"""A worker under a lease: of all processes on a catalog one at a time does the work, the others stand by.

The lease is taken at the first turn, prolonged when half of it is over (also while a turn runs), and given back by
`release`. What its turns transact through a `FencedCatalog` is fenced: once another process has taken over, the rest of
a turn that was paused fails with LeaseLost and changes nothing.

With `Epochs` as judge of who lives, a lease ends with its holder's epoch: on an embedded catalog a process that starts
after a crash takes over at once, elsewhere once the dead one's heartbeat is overdue. So leases can be long, and
prolonging them costs next to nothing.
"""

from __future__ import annotations

import asyncio
import logging

from catalog.errors import CatalogError, LeaseLost
from catalog.fencing import fenced_by
from catalog.leases import Lease, Leases
from core.clock import Clock
from core.workers import Forceable, HandOver, Standby, Worker, WorkerReport, WorkerState

log = logging.getLogger("atoll.workers")

_NAME = b"worker/"


class LeasedWorker:
    """`worker` as one that works only under its lease. `seconds`: how long a holder may be silent."""

    def __init__(self, worker: Worker, leases: Leases, clock: Clock, *, seconds: float = 60.0) -> None:
        self.name = worker.name
        self.interval = worker.interval
        self._worker = worker
        self._leases = leases
        self._clock = clock
        self._seconds = seconds
        self._lease: Lease | None = None
        self._due = 0.0  # when to prolong, on the monotonic clock
        self._lost = 0

    async def turn(self) -> WorkerState:
        """A turn of the worker under the lease; without it, a look whether it is free. Raises what the worker does."""
        try:
            lease = await self._hold()
            if lease is None:
                return await self._stand_by()
            state = await self._work(lease)
        except LeaseLost as error:
            log.warning("%s; the worker stops here", error)
            self._lease = None
            self._lost += 1
            return WorkerState.IDLE
        except HandOver:
            await self.release()
            raise
        if state is WorkerState.DONE:
            await self.release()
        return state

    async def release(self) -> None:
        """Let others work at once; call when no turn runs any more."""
        lease, self._lease = self._lease, None
        if lease is not None:
            try:
                await lease.release()
            except CatalogError as error:
                log.warning("the lease of %s ends by itself: %s", self.name, error)

    def force(self) -> None:
        """See `Forceable`; for a worker that is none, nothing."""
        if isinstance(self._worker, Forceable):
            self._worker.force()

    def report(self) -> WorkerReport:
        """The worker's own, with who works."""
        report = self._worker.report()
        progress = report.progress if self._lease is not None else "left to another gateway"
        return WorkerReport(report.state, progress, {**report.counters, "leases_lost": self._lost})

    async def _hold(self) -> Lease | None:
        now = self._clock.monotonic()
        if self._lease is None:
            self._lease = await self._leases.acquire(_NAME + self.name.encode(), self._seconds)
        elif now >= self._due:
            await self._prolong(self._lease)
        else:
            return self._lease
        self._due = now + self._seconds / 2
        return self._lease

    async def _prolong(self, lease: Lease) -> None:
        try:
            await lease.renew(self._seconds)
        except LeaseLost:
            raise
        except CatalogError as error:
            # It is ours until another takes it, and a full disk must not keep collection from making room.
            log.warning("the lease of %s was not prolonged: %s", self.name, error)

    async def _stand_by(self) -> WorkerState:
        # Looked at often enough to take over soon, also by workers that seldom have something to do.
        self.interval = min(self._worker.interval, self._seconds / 4)
        return await self._worker.standby() if isinstance(self._worker, Standby) else WorkerState.IDLE

    async def _work(self, lease: Lease) -> WorkerState:
        self.interval = self._worker.interval
        with fenced_by(lease):
            turn = asyncio.create_task(self._worker.turn(), name=f"turn of {self.name}")
        try:
            while True:
                left = max(0.0, self._due - self._clock.monotonic())
                done, _ = await asyncio.wait([turn], timeout=left)
                if done:
                    return turn.result()
                await self._hold()
        finally:
            if not turn.done():
                turn.cancel()
                await asyncio.gather(turn, return_exceptions=True)
