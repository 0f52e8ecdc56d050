"""Owns the tasks of background workers: one task each, paced by the foreground.

After a busy turn the runner pauses for a multiple of the time the turn took, the multiple growing with the number of
requests under way: an idle server works at full speed, a loaded one gives its background a small, fixed share.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from core.errors import AtollError
from core.workers import Forceable, Worker, WorkerReport, WorkerState

log = logging.getLogger("atoll.workers")

#: Pause after a busy turn, as a multiple of the turn, for each request under way.
_PAUSE_FACTOR = 1.0
_MAX_PAUSE = 1.0  # seconds
_BREATH = 0.02  # seconds of work between two pauses within a turn
_FIRST_BACKOFF = 1.0
_MAX_BACKOFF = 60.0


class UnknownWorker(AtollError):
    """No worker of this name runs here."""


@dataclass(slots=True)
class RunningWorker:
    """What is known of one worker while it runs."""

    worker: Worker
    turns: int = 0
    errors: int = 0
    last_error: str = ""
    busy_seconds: float = 0.0
    awaited: int = 0  # callers of `run`
    breathed: float = 0.0  # when it last paused within its turn, or began that
    paused: float = 0.0  # seconds of pauses within the turn
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    turn_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    task: asyncio.Task[None] | None = None

    def report(self) -> WorkerReport:
        """The worker's own report with the runner's counters."""
        report = self.worker.report()
        counters = {**report.counters, "turns": self.turns, "errors": self.errors}
        return WorkerReport(report.state, report.progress, counters)


class WorkerRunner:
    """Runs workers until closed. `load` tells how many foreground requests are under way."""

    def __init__(self, workers: Iterable[Worker], load: Callable[[], int]) -> None:
        self._load = load
        self._running = {worker.name: RunningWorker(worker) for worker in workers}
        self._closed = False

    def start(self) -> None:
        """Begin; belongs to the running event loop."""
        for name, running in self._running.items():
            running.task = asyncio.create_task(self._run(running), name=f"worker:{name}")

    def workers(self) -> dict[str, RunningWorker]:
        return self._running

    def wake(self, name: str) -> None:
        """Let a worker that is idle, or pauses, take its next turn now. Raises UnknownWorker."""
        self._find(name).wake.set()

    def force(self, name: str) -> None:
        """Let a worker do in its next turns what it does only when asked to. Raises UnknownWorker."""
        worker = self._find(name).worker
        if isinstance(worker, Forceable):
            worker.force()

    async def run(self, name: str, *, turns: int = 1_000_000) -> WorkerReport:
        """Take turns at full speed until the worker is idle (at most `turns`) and return its report.

        Raises UnknownWorker, or what the worker raises.
        """
        running = self._find(name)
        running.awaited += 1
        try:
            for _ in range(turns):
                if await self._turn(running) is not WorkerState.BUSY:
                    break
        finally:
            running.awaited -= 1
        return running.report()

    async def breathe(self, name: str) -> None:
        """Within a turn that takes long: pause as after a turn, for what was done since the last pause. Not while
        somebody waits for the worker. Raises UnknownWorker."""
        running = self._find(name)
        worked = time.monotonic() - running.breathed
        if worked < _BREATH or running.awaited:
            return
        began = time.monotonic()
        await asyncio.sleep(self._pause(worked))
        running.breathed = time.monotonic()
        running.paused += running.breathed - began

    def _pause(self, worked: float) -> float:
        """Seconds that the foreground is left alone after so many of work."""
        return min(worked * _PAUSE_FACTOR * self._load(), _MAX_PAUSE)

    async def close(self) -> None:
        """Cancel all workers and wait until they ended."""
        self._closed = True
        tasks = [running.task for running in self._running.values() if running.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _find(self, name: str) -> RunningWorker:
        running = self._running.get(name)
        if running is None:
            raise UnknownWorker(f"no worker is named {name}; there are {', '.join(sorted(self._running)) or 'none'}")
        return running

    async def _turn(self, running: RunningWorker) -> WorkerState:
        async with running.turn_lock:
            started = running.breathed = time.monotonic()
            running.paused = 0.0
            try:
                return await running.worker.turn()
            finally:
                running.turns += 1
                running.busy_seconds += time.monotonic() - started - running.paused

    async def _run(self, running: RunningWorker) -> None:
        backoff = _FIRST_BACKOFF
        while not self._closed:
            try:
                state = await self._turn(running)
            except Exception as error:
                # A worker that fails must not end the program nor spin: its work waits, visible in status.
                running.errors += 1
                running.last_error = f"{type(error).__name__}: {error}"
                log.exception("worker failed", extra={"fields": {"worker": running.worker.name}})
                await self._idle(running, backoff)
                backoff = min(backoff * 2, _MAX_BACKOFF)
                continue
            backoff = _FIRST_BACKOFF
            if state is WorkerState.DONE:
                return
            if state is WorkerState.BUSY:
                await self._idle(running, self._pause(time.monotonic() - running.breathed))
            else:
                await self._idle(running, running.worker.interval)

    @staticmethod
    async def _idle(running: RunningWorker, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(running.wake.wait(), seconds)
        running.wake.clear()
