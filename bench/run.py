"""`make bench`: Atoll and SeaweedFS interleaved in one run, medians, with the machine's limits beside.

Writes `bench/results.json`: a list of {name, ours, peer, ratio, unit}. Takes about ten minutes; `--quick` skips the
memory and listing parts and does one round.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import cache, limits, measures
from bench.servers import Atoll, Seaweed

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    ours: float
    peer: float
    ratio: float
    unit: str


def interleave(rounds: int, ours: Callable[[int], float], peer: Callable[[int], float]) -> tuple[float, float]:
    """Medians of both, measured in turns so that a slow minute of the machine hits both."""
    pairs = [(ours(number), peer(number)) for number in range(rounds)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


class Bench:
    def __init__(self, folder: Path, rounds: int) -> None:
        self.folder = folder
        self.rounds = rounds
        self.results: list[Result] = []
        self.atoll = Atoll(folder / "atoll")
        self.peer = Seaweed(folder / "seaweedfs")

    def add(self, name: str, ours: float, peer: float, unit: str) -> None:
        result = Result(name, round(ours, 1), round(peer, 1), round(ours / peer, 2), unit)
        self.results.append(result)
        print(f"{name:34} {result.ours:>12,.1f} {result.peer:>12,.1f} {result.ratio:>7.2f} ×  {unit}", flush=True)

    @contextmanager
    def alone(self, server: Atoll | Seaweed) -> Iterator[Atoll | Seaweed]:
        """The server runs in here and the other is stopped: neither's background work is to count against the other."""
        server.resume()
        try:
            yield server
        finally:
            server.pause()

    def measured(self, server: Atoll | Seaweed, measure: Callable[..., float], *arguments: object) -> float:
        with self.alone(server):
            return measure(server.endpoint, *arguments)

    def both(self, name: str, unit: str, measure: Callable[..., float], *, scratch: bool = False) -> float:
        def on(server: Atoll | Seaweed) -> Callable[[int], float]:
            if scratch:
                return lambda number: self.measured(server, measure, self.folder / "load", number)
            return lambda _: self.measured(server, measure)

        ours, peer = interleave(self.rounds, on(self.atoll), on(self.peer))
        self.add(name, ours, peer, unit)
        return ours

    def large(self) -> None:
        md5 = statistics.median(limits.md5_rate() for _ in range(3))
        disk = statistics.median(limits.synced_rate(self.folder / "limit") for _ in range(3))
        put = self.both("PUT 512 MiB", "MB/s", measures.put_large)
        self.add("PUT 512 MiB / MD5 on one core", put, md5, "MB/s")
        self.add("PUT 512 MiB × 1.5 / synced disk", put * 1.5, disk, "MB/s")
        self.both("GET 512 MiB", "MB/s", measures.get_large)
        for server in (self.atoll, self.peer):
            self.measured(server, measures.put_large, 1024)
        self.both("GET 64 KiB ranges of 1 GiB, c=16", "1/s", measures.get_ranges, scratch=True)

    def small(self) -> None:
        self.both("PUT 10 KiB, c=16", "1/s", measures.put_small, scratch=True)
        for server in (self.atoll, self.peer):
            with self.alone(server):
                measures.fill_small(server.endpoint)
        self.both("GET 10 KiB, c=16", "1/s", measures.get_small, scratch=True)

    def listing(self) -> None:
        for server in (self.atoll, self.peer):
            with self.alone(server):
                measures.fill_for_listing(server.endpoint)
        self.both("LIST 100,000 keys", "keys/s", measures.list_all)

    def memory(self, when: str) -> None:
        with self.alone(self.atoll):
            one = measures.peak_memory(self.atoll.endpoint, self.atoll.pid, 1024)
            five = measures.peak_memory(self.atoll.endpoint, self.atoll.pid, 5120)
        self.add(f"PSS, 5 GiB / 1 GiB, {when}", five, one, "MiB")


def measured(bench: Bench, arguments: argparse.Namespace) -> bool:
    """Start both and measure what was asked for; whether that is all there is."""
    for server in (bench.atoll, bench.peer):
        server.start()
        measures.make_bucket(server.endpoint)
        server.pause()
    print(f"{'':34} {bench.atoll.name:>12} {'peer':>12} {'ratio':>7}")
    if arguments.only_small:
        bench.small()
        return False
    if not arguments.quick:
        bench.memory("a new server")
    bench.large()
    bench.small()
    if not arguments.quick:
        bench.listing()
        bench.memory("after all this")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, no listing, no memory")
    parser.add_argument("--folder", type=Path, help="where to put the data (a real file system)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-small", action="store_true", help="only the 10 KiB requests; results.json is kept")
    parser.add_argument("--used", action="store_true", help="with no memory free at first (bench/cache.py)")
    arguments = parser.parse_args()
    base = arguments.folder or ROOT / "data"
    base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=base))
    bench = Bench(folder, 1 if arguments.quick else arguments.rounds)
    try:
        with cache.all_used(folder) if arguments.used else nullcontext():
            if not measured(bench, arguments):
                return
    finally:
        for server in (bench.atoll, bench.peer):
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    (ROOT / "bench" / "results.json").write_text(json.dumps([asdict(result) for result in bench.results], indent=1))
    print(f"peer: {bench.peer.name}; commit {commit.stdout.strip()}; also in bench/results.json")


if __name__ == "__main__":
    main()
