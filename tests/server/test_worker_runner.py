"""Workers: repeated while busy, woken, paced by the foreground, surviving their own failures."""

from __future__ import annotations

import asyncio
import time

import pytest

from core.worker_runner import UnknownWorker, WorkerRunner
from core.workers import WorkerReport, WorkerState


class Scripted:
    """A worker that does what its list says, then idles."""

    name = "scripted"

    def __init__(self, *script: WorkerState | Exception, interval: float = 60.0, seconds: float = 0.0) -> None:
        self.script = list(script)
        self.interval = interval
        self.seconds = seconds
        self.turns: list[float] = []

    async def turn(self) -> WorkerState:
        self.turns.append(time.monotonic())
        if self.seconds:
            await asyncio.sleep(self.seconds)
        step = self.script.pop(0) if self.script else WorkerState.IDLE
        if isinstance(step, Exception):
            raise step
        return step

    def report(self) -> WorkerReport:
        return WorkerReport(counters={"left": len(self.script)})


async def settle(seconds: float = 0.05) -> None:
    await asyncio.sleep(seconds)


async def test_busy_repeats_idle_waits_wake_resumes_done_ends() -> None:
    worker = Scripted(WorkerState.BUSY, WorkerState.BUSY, WorkerState.IDLE, WorkerState.DONE)
    runner = WorkerRunner([worker], lambda: 0)
    runner.start()
    await settle()
    assert len(worker.turns) == 3
    runner.wake("scripted")
    await settle()
    assert len(worker.turns) == 4
    runner.wake("scripted")
    await settle()
    assert len(worker.turns) == 4, "a worker that is done takes no further turn"
    await runner.close()


async def test_interval_brings_an_idle_worker_back() -> None:
    worker = Scripted(interval=0.03)
    runner = WorkerRunner([worker], lambda: 0)
    runner.start()
    await settle(0.2)
    assert 3 <= len(worker.turns) <= 8
    await runner.close()


async def test_foreground_load_slows_busy_turns() -> None:
    turns: dict[int, int] = {}
    for load in (0, 10):
        worker = Scripted(*[WorkerState.BUSY] * 1000, seconds=0.005)
        runner = WorkerRunner([worker], lambda load=load: load)  # type: ignore[misc]
        runner.start()
        await settle(0.4)
        turns[load] = len(worker.turns)
        await runner.close()
    assert turns[10] * 4 < turns[0]


async def test_a_failing_worker_is_counted_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.worker_runner._FIRST_BACKOFF", 0.02)
    worker = Scripted(RuntimeError("no luck"))
    runner = WorkerRunner([worker], lambda: 0)
    runner.start()
    await settle(0.15)
    running = runner.workers()["scripted"]
    assert (running.errors, running.last_error) == (1, "RuntimeError: no luck")
    assert len(worker.turns) == 2
    assert running.report().counters == {"left": 0, "turns": 2, "errors": 1}
    await runner.close()


async def test_run_takes_turns_until_idle_and_tells_unknown_names() -> None:
    worker = Scripted(*[WorkerState.BUSY] * 5)
    runner = WorkerRunner([worker], lambda: 1000)
    report = await runner.run("scripted")
    assert report.counters["turns"] == 6
    with pytest.raises(UnknownWorker, match="no worker is named other; there are scripted"):
        await runner.run("other")


async def test_close_cancels_a_turn_under_way() -> None:
    worker = Scripted(seconds=60)
    runner = WorkerRunner([worker], lambda: 0)
    runner.start()
    await settle()
    await asyncio.wait_for(runner.close(), 1)
    assert len(worker.turns) == 1


class Long(Scripted):
    """One turn of three pieces, with a breath after each."""

    runner: WorkerRunner

    async def turn(self) -> WorkerState:
        for _ in range(3):
            await asyncio.sleep(0.03)
            await self.runner.breathe(self.name)
        return await super().turn()


async def test_a_long_turn_pauses_for_the_foreground_but_not_for_who_waits_for_it() -> None:
    worker = Long()
    runner = worker.runner = WorkerRunner([worker], lambda: 3)
    await runner.run("scripted")
    running = runner.workers()["scripted"]
    assert running.paused == 0, "somebody waited"
    before = running.busy_seconds
    began = time.monotonic()
    runner.start()
    while len(worker.turns) < 2:
        await settle(0.01)
    took = time.monotonic() - began
    await runner.close()
    assert running.paused > 3 * 2 * 0.03, "three times what was worked"
    assert running.busy_seconds - before < took - running.paused, "pauses are no work"
    with pytest.raises(UnknownWorker):
        await runner.breathe("nobody")
