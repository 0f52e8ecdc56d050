"""A gateway of three processes under mixed load from several clients, while its processes are killed and stopped, its
catalog's file is rewritten and its background work is forced.

What clients were answered must fit one order of the operations on each key; in the end what is stored is what is live.
The schedule of faults follows from the seed that is printed; ATOLL_PROCESSES_SEED gives another one.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.rig import Rig
from tests.harness.tidying import TIDY
from tests.harness.two_buckets import TwoBuckets
from tests.processes.family import Family, kill

VARIABLE = "ATOLL_PROCESSES_SEED"
#: Longer than a process may be silent before it is declared dead.
LONG = 19.0
SOAK_SECONDS = 15 * 60


class Scene(Rig):
    """The processes, their histories and their faults."""

    def __init__(self, folder: Path, seed: str) -> None:
        super().__init__(folder, seed)
        self.server: Family = Family(folder)
        self.buckets = TwoBuckets(self.server, self.seeded, self.server.wait_until_whole)
        self.faults = self.buckets.faults

    def begin(self) -> None:
        self.server.start()
        self.buckets.make()

    def check(self) -> None:
        self.buckets.check()

    # --- faults ---

    def kill_guest(self) -> None:
        self.faults.append("kill a guest")
        kill(self.seeded.choice(self.server.guests()))
        time.sleep(self.seeded.uniform(0, 1.5))

    def kill_host(self) -> None:
        self.faults.append("kill the host")
        kill(self.server.pid)
        self.server.wait()
        self.server.start()

    def stop_guest(self) -> None:
        """A guest goes on in the midst of what it was doing; the file is to be rewritten meanwhile."""
        self.faults.append("stop a guest briefly")
        guest = self.seeded.choice(self.server.guests())
        os.kill(guest, signal.SIGSTOP)
        try:
            self.rewrite()
            time.sleep(self.seeded.uniform(0, 2))
        finally:
            os.kill(guest, signal.SIGCONT)

    def stop_guest_for_long(self) -> None:
        """One that its host takes for dead has to be replaced."""
        self.faults.append("stop a guest for long")
        guest = self.seeded.choice(self.server.guests())
        os.kill(guest, signal.SIGSTOP)
        time.sleep(LONG)
        os.kill(guest, signal.SIGCONT)
        deadline = time.monotonic() + 30
        while guest in self.server.guests():
            assert time.monotonic() < deadline, "it did not notice that it was declared dead"
            time.sleep(0.1)

    def stop_host(self) -> None:
        self.faults.append("stop the host")
        self.server.pause()
        time.sleep(self.seeded.uniform(0.5, 4))
        self.server.resume()

    def rewrite(self) -> None:
        self.faults.append("rewrite the file")
        self.admin("POST", "/workers/catalog-repack/run")

    def tidy(self) -> None:
        self.faults.append("force background work")
        for worker in TIDY:
            self.admin("POST", f"/workers/{worker}/run")


@pytest.mark.timeout(400)
def test_histories_are_linearizable_whatever_process_goes_away(
    tmp_path: Path, soak: bool, figure: Callable[[str], None]
) -> None:
    seed = os.environ.get(VARIABLE, "three processes")
    scene = Scene(tmp_path, seed)
    began = time.monotonic()
    try:
        scene.begin()
        rounds: list[tuple[Callable[[], None], ...]] = [
            (scene.kill_guest, scene.rewrite, scene.tidy),
            (scene.stop_guest_for_long, scene.stop_guest),
            (scene.kill_host, scene.stop_host),
        ]
        for faults in rounds:
            scene.buckets.round(*faults)
        kinds = (
            scene.kill_guest, scene.kill_host, scene.stop_guest, scene.stop_guest_for_long, scene.stop_host,
            scene.rewrite, scene.tidy,
        )  # fmt: skip
        while soak and time.monotonic() < began + SOAK_SECONDS:
            scene.buckets.round(*scene.seeded.choices(kinds, k=3))
        figure(scene.buckets.figures())
        assert scene.buckets.answered > 100 * len(scene.faults)
        scene.server.stop()
        scene.server.extra["ATOLL_PROCESSES"] = "1"
        scene.server.start()
        scene.finish_empty()
    except BaseException:
        sys.stderr.write(f"{VARIABLE}={seed}; faults: {scene.faults}\n{''.join(scene.server.output[-40:])}\n")
        raise
    finally:
        scene.server.kill()
