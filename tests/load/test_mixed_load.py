"""Mixed load while nodes leave and return and all background work runs.

Answers stay linearizable, memory stays flat, and in the end nothing is stored but what is live.
"""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.admin.client import AdminClient
from tests.crash.rig import BUCKET, Rig
from tests.harness.history import LoadGenerator
from tests.harness.linearizability import Operation
from tests.harness.load import Load

#: Seconds of one round: load, then a look at everything that it left.
ROUND = 5.0
WORKERS = ("settling", "reclaim", "collection", "compaction", "repair", "recode")
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
#: What the server may hold in memory under this load, in MiB of PSS, and what it may grow by after its first third.
MOST_MIB = 400.0
GROWTH_MIB = 60.0


def memory(pid: int) -> float:
    """MiB that the process holds, shared pages by its share."""
    found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    assert found is not None
    return int(found.group(1)) / 1024


class Disturbance(threading.Thread):
    """Takes one or two nodes away and brings them back, and forces background work, until told to stop."""

    def __init__(self, rig: Rig, seed: int) -> None:
        super().__init__(daemon=True)
        self._rig = rig
        self._admin = AdminClient(rig.server.data)
        self._seeded = random.Random(seed)
        self._halt = threading.Event()
        self.absences = self.forced = 0
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._halt.is_set():
                self._lose(self._seeded.sample(range(1, 7), self._seeded.randint(1, 2)))
        except BaseException as problem:
            self.problem = problem

    def _lose(self, numbers: list[int]) -> None:
        for number in numbers:
            (self._rig.server.nodes / str(number)).rename(self._rig.server.folder / f"away-{number}")
        try:
            self._halt.wait(self._seeded.uniform(0.3, 1.5))
        finally:
            for number in numbers:
                (self._rig.server.folder / f"away-{number}").rename(self._rig.server.nodes / str(number))
        self.absences += len(numbers)
        # Repair needs its time: were two more to leave at once, what was written meanwhile would be out of reach.
        self._whole_again()

    def _whole_again(self) -> None:
        while not self._halt.is_set():
            for worker in WORKERS:
                self._admin.call("POST", f"/workers/{worker}/run")
                self.forced += 1
            status = self._admin.call("GET", "/status")
            if status["health"]["state"] == "healthy":
                return
            self._halt.wait(0.1)

    def stop(self) -> None:
        self._halt.set()
        self.join(60)
        if self.problem is not None:
            raise self.problem


class ShortOfNodes(LoadGenerator):
    """A write whose nodes leave while it is under way may be refused: its client has to send it again."""

    may_refuse = True


class LossyRig(Rig):
    def new_load(self, seed: int, threads: int) -> Load:
        return ShortOfNodes(self.server, self.history, seed=seed, bucket=BUCKET, threads=threads)


@contextlib.contextmanager
def disturbed(rig: Rig) -> Iterator[Disturbance]:
    disturbance = Disturbance(rig, rig.seeded.getrandbits(60))
    disturbance.start()
    try:
        yield disturbance
    finally:
        disturbance.stop()


def milliseconds(operations: list[Operation]) -> tuple[float, float]:
    """Median and 99th percentile of what was answered."""
    taken = sorted(one.end - one.start for one in operations if not one.optional)
    return taken[len(taken) // 2] * 1000, taken[len(taken) * 99 // 100] * 1000


@pytest.mark.timeout(300)
def test_mixed_load(tmp_path: Path, rounds: int, figure: Callable[[str], None]) -> None:
    rig = LossyRig(tmp_path, "load")
    rig.start()
    held: list[float] = []
    operations: list[Operation] = []
    absences = forced = refused = 0
    began = time.monotonic()
    for _ in range(2 * rounds):
        with disturbed(rig) as disturbance, rig.load(threads=8) as load:
            time.sleep(ROUND)
        refused += load.unavailable
        absences += disturbance.absences
        forced += disturbance.forced
        held.append(memory(rig.server.pid))
        operations += [one for group in rig.history.operations.values() for one in group]
        rig.check()
    seconds = time.monotonic() - began
    median, slowest = milliseconds(operations)
    figure(
        f"{len(operations)} operations in {seconds:.0f} s, median {median:.0f} ms, 99th percentile {slowest:.0f} ms, "
        f"{refused} refused; {absences} absences of nodes, {forced} forced turns of workers; "
        f"memory at most {max(held):.0f} MiB"
    )
    assert absences >= rounds
    assert refused <= 2 * absences
    assert max(held) < MOST_MIB
    assert max(held) - max(held[: max(1, len(held) // 3)]) < GROWTH_MIB
    rig.finish()
    rig.start()
    rig.finish_empty()
