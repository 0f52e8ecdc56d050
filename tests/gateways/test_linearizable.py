"""Three gateways under mixed load from several clients, while everything that can go away goes away.

What clients were answered must fit one order of the operations on each key; in the end what is stored is what is live.
The schedule of faults follows from the seed that is printed; ATOLL_GATEWAYS_SEED gives another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.gateways import Cluster
from tests.harness.history import empty
from tests.harness.postgres_server import PostgresServer
from tests.harness.two_buckets import TwoBuckets

VARIABLE = "ATOLL_GATEWAYS_SEED"
#: Longer than the others wait before they declare a silent gateway dead.
STOPPED = 19.0
SOAK_SECONDS = 30 * 60


class Scene:
    """The cluster, its histories and its faults."""

    def __init__(self, folder: Path, postgres: PostgresServer, seed: str) -> None:
        self.cluster = Cluster(folder, postgres, asyncio.run(postgres.new_database()))
        self.postgres = postgres
        self.seeded = random.Random(seed)
        self.buckets = TwoBuckets(self.cluster, self.seeded, self.cluster.wait_until_serving)
        self.faults = self.buckets.faults

    def start(self) -> None:
        self.cluster.start()
        self.buckets.make()

    # --- faults ---

    def kill(self) -> None:
        gateway = self.seeded.choice(self.cluster.gateways)
        self.faults.append(f"kill {gateway.folder.name}")
        gateway.kill()
        time.sleep(self.seeded.uniform(0, 1.5))
        gateway.start()

    def stop_for_long(self) -> None:
        """A gateway that everybody takes for dead goes on in the midst of what it was doing."""
        gateway = self.seeded.choice(self.cluster.gateways)
        other = self.seeded.choice([one for one in self.cluster.gateways if one is not gateway])
        self.faults.append(f"stop {gateway.folder.name}, kill {other.folder.name}")
        before = gateway.beginnings()
        gateway.pause()
        time.sleep(1)
        other.kill()
        other.start()
        time.sleep(STOPPED)
        gateway.resume()
        deadline = time.monotonic() + 30
        while gateway.beginnings() == before:
            assert gateway.running(), "".join(gateway.output[-20:])
            assert time.monotonic() < deadline, "it did not notice that it was declared dead"
            time.sleep(0.1)

    def stop_briefly(self) -> None:
        gateway = self.seeded.choice(self.cluster.gateways)
        self.faults.append(f"stop {gateway.folder.name} briefly")
        gateway.pause()
        time.sleep(self.seeded.uniform(0.5, 4))
        gateway.resume()

    def restart_database(self) -> None:
        crash = self.seeded.random() < 0.7
        self.faults.append("crash PostgreSQL" if crash else "restart PostgreSQL")
        self.postgres.stop(crash=crash)
        time.sleep(self.seeded.uniform(0, 3))
        self.postgres.start()

    def cut_connections(self) -> None:
        self.faults.append("cut connections")
        for _ in range(3):
            self.cluster.cut_connections()
            time.sleep(self.seeded.uniform(0.1, 0.5))


@contextlib.contextmanager
def told(scene: Scene, seed: str) -> Iterator[None]:
    """Whoever sees this fail needs the seed and what the gateways said."""
    try:
        yield
    except BaseException:
        sys.stderr.write(f"{VARIABLE}={seed}; faults: {scene.faults}\n")
        for gateway in scene.cluster.gateways:
            sys.stderr.write(f"--- {gateway.folder.name}\n{''.join(gateway.output[-30:])}\n")
        raise
    finally:
        scene.cluster.kill()


@pytest.mark.timeout(400)
@pytest.mark.xdist_group("gateways")
def test_histories_are_linearizable_whatever_goes_away(
    tmp_path: Path, durable_postgres: PostgresServer, soak: bool, figure: Callable[[str], None]
) -> None:
    seed = os.environ.get(VARIABLE, "three gateways")
    scene = Scene(tmp_path, durable_postgres, seed)
    began = time.monotonic()
    with told(scene, seed):
        scene.start()
        rounds = [
            (scene.kill, scene.cut_connections),
            (scene.stop_for_long,),
            (scene.restart_database, scene.kill),
        ]
        for faults in rounds:
            scene.buckets.round(*faults)
        kinds = (scene.kill, scene.stop_for_long, scene.stop_briefly, scene.restart_database, scene.cut_connections)
        while soak and time.monotonic() < began + SOAK_SECONDS:
            scene.buckets.round(*scene.seeded.choices(kinds, k=3))
        figure(scene.buckets.figures())
        assert scene.buckets.answered > 100 * len(scene.faults)
        scene.cluster.finish()
        scene.cluster.gateways[0].start()
        empty(scene.cluster.gateways[0])
        scene.cluster.finish()
        assert not any(scene.cluster.held()), "pieces of nothing"
