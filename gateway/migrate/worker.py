"""The background worker of all migrations: under its lease, one gateway at a time does the copying.

A turn looks at the jobs' rows, starts and stops their runs accordingly and gives them a moment; the runs' tasks live on
between turns and end with the lease. What they have done is in the catalog at any instant, so who comes next goes on.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from core.clock import Clock
from core.workers import WorkerReport, WorkerState
from gateway.migrate.jobs import Job, Jobs
from gateway.migrate.layout import ENDED, ENDING, RUNNING, JobRow
from gateway.migrate.run import Run

log = logging.getLogger("atoll.migrate")

_MOMENT = 0.5  # seconds of a turn


class MigrationWorker:
    """See `core.workers.Worker`."""

    name = "migrate"
    interval = 5.0

    def __init__(self, jobs: Jobs, clock: Clock) -> None:
        self._jobs = jobs
        self._clock = clock
        self._runs: dict[bytes, Run] = {}
        self._running: list[Job] = []

    async def turn(self) -> WorkerState:
        try:
            return await self._turn()
        except BaseException:
            await self.close()
            raise

    async def standby(self) -> WorkerState:
        """The lease is another's: nothing may run here."""
        await self.close()
        return WorkerState.IDLE

    async def close(self) -> None:
        """Stop every run; what is not yet committed is done again later."""
        runs, self._runs = list(self._runs.values()), {}
        await asyncio.gather(*(run.close() for run in runs))

    def report(self) -> WorkerReport:
        if not self._running:
            return WorkerReport(WorkerState.IDLE)
        shown = "; ".join(progress(job) for job in self._running)
        counters: dict[str, int] = {}
        for job in self._running:
            for name, count in job.row.tallies.items():
                counters[name] = counters.get(name, 0) + count
        return WorkerReport(WorkerState.BUSY, shown, counters)

    async def _turn(self) -> WorkerState:
        jobs = await self._jobs.all()
        for job in jobs:
            if job.row.state == ENDING:
                await self._end(job)
        self._running = [job for job in jobs if job.row.state == RUNNING]
        wanted = {job.id for job in self._running}
        for job_id in [job_id for job_id, run in self._runs.items() if job_id not in wanted or run.done]:
            await self._runs.pop(job_id).close()
        for job in self._running:
            if job.id not in self._runs:
                self._runs[job.id] = Run(self._jobs, job, self._clock)
        if not self._runs:
            return WorkerState.IDLE
        await asyncio.wait([run.task for run in self._runs.values()], timeout=_MOMENT)
        return WorkerState.BUSY

    async def _end(self, job: Job) -> None:
        """Remove what an ended job leaves."""
        run = self._runs.pop(job.id, None)
        if run is not None:
            await run.close()
        await self._jobs.unmark(job)
        await self._jobs.clean(job.id)

        def ended(row: JobRow) -> JobRow:
            blank = msgspec.structs.replace(row.source, access_key_id="", sealed=b"")
            return msgspec.structs.replace(row, state=ENDED, source=blank)

        await self._jobs.change(job.id, ended)
        log.info("migration ended", extra={"fields": {"migration": job.id.hex(), "bucket": job.row.target}})


def progress(job: Job) -> str:
    """A job in a few words."""
    row, tallies = job.row, job.row.tallies
    done = sum(tallies.get(name, 0) for name in ("copied", "kept", "vanished", "failed"))
    return f"{row.target}: {row.phase}, pass {row.passes}, {done} of {tallies.get('queued', 0)} keys"
