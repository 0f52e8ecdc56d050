"""What is back, and when, after a gateway's machine was lost: `python -m bench.recovery [--objects 100000]`.

A server takes objects from clients that go on and on: sealed into the catalog (up to 4 KiB), packed (10 KiB), some of
several MiB. Once so many are acknowledged and in a snapshot it is killed with SIGKILL amid the load, and everything is
removed but the nodes and the exported root key. In a new network namespace, with these two alone, `atoll restore` runs
and the server starts; every object that was acknowledged is read back and compared.

The *recovery point* is what `atoll restore` says it went back to. Whatever was acknowledged before it has to be there:
else this ends with a status other than 0.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from bench.client import RawClient, RequestFailed
from bench.signing import Endpoint
from core.ids import is_snapshot_name
from gateway.admin.client import AdminClient
from tests.harness.live_server import LiveServer
from tests.harness.namespace import bring_loopback_up, entering

BUCKET = "/recovery"
MIB = 1 << 20
WRITERS = 16
READERS = 8
#: Seconds for which the load goes on once there are enough objects and a point with them: the kill may come any time.
GOING_ON = 10.0
#: Seconds between two looks at what the server tells of its snapshots.
_LOOK = 0.5
#: Requests before a client is made anew: signatures are good for 15 minutes.
_RENEWED = 2000
#: Where the server's key was made, and not set: it has to come back, too.
_NO_KEY = {"ATOLL_ACCESS_KEY_ID": "", "ATOLL_SECRET_ACCESS_KEY": ""}
_PRINTED = re.compile(r"export AWS_(?:SECRET_)?ACCESS_KEY(?:_ID)?=(\S+)")


@dataclass(frozen=True, slots=True)
class Figures:
    """`point` and `oldest_lost` are seconds before the kill (0: nothing acknowledged was lost), `restore` and `ready`
    seconds from the command's start to its end; `lags` are what the server told every half second under load: for how
    long the oldest change had waited for a snapshot. `broken` are objects that should be as they were and are not."""

    objects: int
    bytes: int
    point: float
    lost: int
    oldest_lost: float
    lags: list[float]
    restore: float
    ready: float
    rows: int
    parts: int
    snapshot_bytes: int
    snapshot_pieces: int
    broken: list[str]
    warnings: list[str]


def body_of(number: int) -> bytes:
    """An object's bytes, made again when they are compared."""
    chance = random.Random(number)
    if number % 4001 == 17:
        return chance.randbytes(chance.randrange(3 * MIB, 6 * MIB))
    return chance.randbytes(10 * 1024 if number % 5 < 2 else chance.randrange(4096 + 1))


def path_of(number: int) -> str:
    return f"{BUCKET}/{number % 100:02d}/{number:07d}"


class Writers:
    """Clients that put one object after the other. `acknowledged`: number → wall-clock seconds. Set `ending` before the
    server goes, then `join`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.acknowledged: dict[int, float] = {}
        self.ending = threading.Event()
        self._endpoint, self._numbers = endpoint, itertools.count()
        self._threads = [threading.Thread(target=self._work) for _ in range(WRITERS)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def all_work(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        try:
            while not self.ending.is_set():
                with contextlib.closing(RawClient(self._endpoint)) as client:
                    for number in itertools.islice(self._numbers, _RENEWED):
                        client.put(path_of(number), body_of(number))
                        self.acknowledged[number] = time.time()
                        if self.ending.is_set():
                            return
        except (OSError, RequestFailed):
            if not self.ending.is_set():
                raise


def first_act(folder: Path, objects: int, going_on: float) -> tuple[dict[int, float], float, list[float]]:
    """Fill, and kill amid the load. What was acknowledged when, when the kill was, and what lags were told. `nodes` and
    `root.key` are left, and the examiner's own `keys.json`."""
    server = LiveServer(folder / "machine", env=_NO_KEY).start()
    try:
        endpoint = _endpoint(server)
        with contextlib.closing(RawClient(endpoint)) as client:
            client.request("PUT", BUCKET)
        exported = server.command("keys", "export", "--output", str(folder / "root.key"))
        if exported.returncode:
            raise RuntimeError(exported.stderr)
        writers = Writers(endpoint)
        try:
            lags = _wait_for(writers, server, objects, going_on)
        finally:
            writers.ending.set()
            killed = time.time()
            server.kill()
            writers.join()
    finally:
        server.kill()
    shutil.move(server.nodes, folder / "nodes")
    shutil.rmtree(server.folder)
    (folder / "keys.json").write_text(json.dumps([endpoint.access_key, endpoint.secret_key]))
    return writers.acknowledged, killed, lags


def _endpoint(server: LiveServer) -> Endpoint:
    """As the first start printed it."""
    key, secret = _PRINTED.findall("".join(server.output))
    return Endpoint("127.0.0.1", server.port, key, secret)


def _wait_for(writers: Writers, server: LiveServer, objects: int, going_on: float) -> list[float]:
    """Until so many objects are acknowledged and in a snapshot, and some seconds longer. What lags were told."""
    admin, lags, enough, until = AdminClient(server.data), [0.0], 0.0, float("inf")
    while time.monotonic() < until:
        if not writers.all_work():
            raise RuntimeError("a client failed while the server was to serve")
        told = admin.call("GET", "/status")["snapshots"]
        lags.append(told["lag_seconds"])
        if not enough and len(writers.acknowledged) >= objects:
            enough = time.time()
        if enough and until == float("inf") and told["exists"] and _seconds(told["point"]) > enough:
            until = time.monotonic() + going_on
        time.sleep(_LOOK)
    return lags


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def second_act(folder: Path) -> None:
    """In the new namespace: restore, start, compare; what came of it goes to `outcome.json`."""
    bring_loopback_up()
    numbers = json.loads((folder / "numbers.json").read_text())
    key, secret = json.loads((folder / "keys.json").read_text())
    server = LiveServer(folder / "empty-machine", env=_NO_KEY)
    named = [part for node in sorted((folder / "nodes").iterdir()) for part in ("--node", str(node))]
    began = time.monotonic()
    done = server.command("restore", *named, "--root-key", str(folder / "root.key"), "--json", timeout=3600)
    restored = time.monotonic() - began
    if done.returncode:
        raise SystemExit(done.stderr)
    began = time.monotonic()
    server.start(timeout=300)
    ready = time.monotonic() - began
    try:
        wrong = _compare(Endpoint("127.0.0.1", server.port, key, secret), numbers)
    finally:
        server.kill()
    outcome = {"restore": restored, "ready": ready, "wrong": wrong, "told": json.loads(done.stdout)}
    (folder / "outcome.json").write_text(json.dumps(outcome))


def _compare(endpoint: Endpoint, numbers: list[int]) -> dict[str, str]:
    """What is wrong with each object that is not as it was acknowledged."""
    found: dict[str, str] = {}

    def work(mine: list[int]) -> None:
        for start in range(0, len(mine), _RENEWED):
            with contextlib.closing(RawClient(endpoint)) as client:
                for number in mine[start : start + _RENEWED]:
                    try:
                        if client.request("GET", path_of(number)).body != body_of(number):
                            found[str(number)] = "other bytes"
                    except RequestFailed as error:
                        found[str(number)] = "missing" if ": 404 " in str(error) else str(error)

    with ThreadPoolExecutor(READERS) as pool:
        for done in [pool.submit(work, numbers[place::READERS]) for place in range(READERS)]:
            done.result()
    return found


def measure(folder: Path, objects: int, going_on: float = GOING_ON) -> Figures:
    """Both acts. Raises RuntimeError where one of them can't be played."""
    way = entering()
    if way is None:
        raise RuntimeError("a new network namespace is not permitted here")
    acknowledged, killed, lags = first_act(folder, objects, going_on)
    (folder / "numbers.json").write_text(json.dumps(sorted(acknowledged)))
    sizes = [size for path, size in _files(folder / "nodes") if is_snapshot_name(path.name)]
    command = [*way, sys.executable, "-m", "bench.recovery", "--second-act", str(folder)]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[1], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    outcome = json.loads((folder / "outcome.json").read_text())
    told, wrong = outcome["told"], {int(number): why for number, why in outcome["wrong"].items()}
    point = told["point_us"] / 1e6
    lost = {number: acknowledged[number] for number, why in wrong.items() if why == "missing"}
    broken = [
        f"{path_of(number)}: {why}, acknowledged {point - acknowledged[number]:.3f} s before the point"
        for number, why in sorted(wrong.items())
        if why != "missing" or acknowledged[number] <= point
    ]
    return Figures(
        objects=len(acknowledged),
        bytes=sum(len(body_of(number)) for number in acknowledged),
        point=killed - point,
        lost=len(lost),
        oldest_lost=killed - min(lost.values(), default=killed),
        lags=lags,
        restore=outcome["restore"],
        ready=outcome["ready"],
        rows=told["rows"],
        parts=told["parts"],
        snapshot_bytes=sum(sizes),
        snapshot_pieces=len(sizes),
        broken=broken,
        warnings=told["warnings"],
    )


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, path.stat().st_size


def show(figures: Figures) -> None:
    """The figures, a line each."""
    print(f"{figures.objects:,} objects acknowledged, {figures.bytes:,} bytes")
    print(f"recovery point: {figures.point:.2f} s before the kill")
    print(
        f"lost after it: {figures.lost:,} objects, the oldest acknowledged {figures.oldest_lost:.2f} s before the kill"
    )
    print(f"under load the oldest change waited for {max(figures.lags):.2f} s at the most")
    print(f"restore: {figures.restore:.2f} s for {figures.rows:,} rows in {figures.parts:,} parts")
    print(f"ready after that: {figures.ready:.2f} s")
    print(f"snapshots on the nodes: {figures.snapshot_bytes:,} bytes in {figures.snapshot_pieces:,} pieces")
    for warning in figures.warnings:
        print(f"warning: {warning}")
    for sentence in figures.broken[:20]:
        print(f"BROKEN: {sentence}")
    print(f"acknowledged before the point and not as it was: {len(figures.broken):,}")


def main() -> None:
    parser = argparse.ArgumentParser(description="What is back, and when, after a gateway's machine was lost.")
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--json", action="store_true", help="The figures machine-readably.")
    parser.add_argument("--second-act", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.second_act is not None:
        second_act(chosen.second_act)
        return
    base = Path(__file__).resolve().parents[1] / "data"
    base.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="recovery-", dir=base))
    try:
        figures = measure(folder, chosen.objects)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if chosen.json:
        print(json.dumps(asdict(figures), indent=1))
    else:
        show(figures)
    raise SystemExit(1 if figures.broken else 0)


if __name__ == "__main__":
    main()
