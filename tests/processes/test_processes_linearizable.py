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
from typing import Any

import pytest

from tests.crash.rig import TIDY, Rig
from tests.harness.gateways import KeepingLoad, PlainLoad
from tests.harness.history import settle
from tests.harness.load import History
from tests.harness.versioned import Versions, settle_versions
from tests.processes.family import Family, kill

VARIABLE = "ATOLL_PROCESSES_SEED"
PLAIN, KEEPING = "plain", "keeping"
#: Longer than a process may be silent before it is declared dead.
LONG = 19.0
SOAK_SECONDS = 15 * 60


class Scene(Rig):
    """The processes, their histories and their faults."""

    def __init__(self, folder: Path, seed: str) -> None:
        super().__init__(folder, seed)
        self.server: Family = Family(folder)
        self.plain, self.versions = History(), Versions()
        self.faults: list[str] = []
        self.unavailable = 0

    def begin(self) -> None:
        self.server.start()
        client = self.server.client()
        client.create_bucket(Bucket=PLAIN)
        client.create_bucket(Bucket=KEEPING)
        client.put_bucket_versioning(Bucket=KEEPING, VersioningConfiguration={"Status": "Enabled"})

    def check(self) -> None:
        """Every answer fits what is there, in both buckets."""
        self.plain = settle(self.server, PLAIN, self.plain)
        self.versions = settle_versions(self.server, KEEPING, self.versions)

    def round(self, *faults: Callable[[], None]) -> None:
        """Load, with faults that follow one another, until all is well again; then look at every key."""
        loads: list[Any] = [
            PlainLoad(self.server, self.plain, seed=self.seeded.getrandbits(60), bucket=PLAIN, threads=5),
            KeepingLoad(self.server, self.versions, seed=self.seeded.getrandbits(60), bucket=KEEPING, threads=4),
        ]
        for load in loads:
            load.start()
        try:
            time.sleep(1)
            for fault in faults:
                fault()
                time.sleep(self.seeded.uniform(0.3, 1.5))
            self.server.wait_until_whole()
            time.sleep(1)
        finally:
            for load in loads:
                load.stop()
        for load in loads:
            self.unavailable += load.unavailable
            self.cut_off += load.cut_off
            assert not load.unexpected, load.unexpected[:5]
        self.check()

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

    def figures(self) -> str:
        answered = self.plain.acknowledged + self.versions.acknowledged
        unknown = self.plain.unknown + self.versions.unknown
        return (
            f"{len(self.faults)} faults ({', '.join(self.faults)}): {answered} operations answered, {unknown} without "
            f"an answer, {self.unavailable} refused with 503"
        )


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
            scene.round(*faults)
        kinds = (
            scene.kill_guest, scene.kill_host, scene.stop_guest, scene.stop_guest_for_long, scene.stop_host,
            scene.rewrite, scene.tidy,
        )  # fmt: skip
        while soak and time.monotonic() < began + SOAK_SECONDS:
            scene.round(*scene.seeded.choices(kinds, k=3))
        figure(scene.figures())
        assert scene.plain.acknowledged + scene.versions.acknowledged > 100 * len(scene.faults)
        scene.server.stop()
        scene.server.extra["ATOLL_PROCESSES"] = "1"
        scene.server.start()
        scene.finish_empty()
    except BaseException:
        sys.stderr.write(f"{VARIABLE}={seed}; faults: {scene.faults}\n{''.join(scene.server.output[-40:])}\n")
        raise
    finally:
        scene.server.kill()
