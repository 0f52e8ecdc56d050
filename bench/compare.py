"""`python -m bench.compare REV`: whether the work tree is slower than another commit, measured in turns.

Both versions run as `atoll up` with this environment's libraries, each over folders of its own; while one is measured
the other is stopped. Every figure is measured in pairs, one of each version, in the order A B, B A, A B, …, and judged
by the median of the pairs' ratios (work tree / REV) with its 95 % bootstrap interval: *worse* where all of it lies
below 1, *better* where all of it lies above. Exit code 1 if any figure is worse. Takes about ten minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import measures
from bench.servers import Atoll
from bench.signing import Endpoint

ROOT = Path(__file__).resolve().parents[1]
RESAMPLES = 10_000
FEWEST = 6  # pairs: of fewer, all may lie on one side by chance in more than one comparison of 40
SETTLE = 0.5  # seconds between waking a server and measuring it


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: MiB of large objects, seconds of small requests, keys of a listing."""

    large: int
    seconds: int
    keys: int


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a server: `fill` prepares it once, `measure` is given the number of the pair."""

    name: str
    unit: str
    measure: Callable[[Endpoint, int], float]
    fill: Callable[[Endpoint], object] = lambda _: None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The median of the ratios with its 95 % interval."""

    pairs: int
    ratio: float
    low: float
    high: float

    @property
    def word(self) -> str:
        if self.pairs < FEWEST:
            return "too few pairs to tell"
        return "worse" if self.high < 1 else "better" if self.low > 1 else "same"


def judge(ratios: Sequence[float]) -> Verdict:
    """By the percentiles of the medians of resamples, which are drawn from a fixed seed."""
    seeded = random.Random(0)
    medians = sorted(statistics.median(seeded.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return Verdict(
        len(ratios), statistics.median(ratios), medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]
    )


def figures(sizes: Sizes, load: Path) -> list[Figure]:
    """What `bench.run` measures of a server. `load` is a scratch folder."""
    seconds = sizes.seconds
    return [
        Figure(f"PUT {sizes.large} MiB", "MB/s", lambda at, _: measures.put_large(at, sizes.large)),
        Figure(f"GET {sizes.large} MiB", "MB/s", lambda at, _: measures.get_large(at, sizes.large)),
        Figure("GET 64 KiB ranges of 1 GiB, c=16", "1/s",
               lambda at, run: measures.get_ranges(at, load, run, seconds),
               lambda at: measures.put_large(at, 1024)),
        Figure("PUT 10 KiB, c=16", "1/s", lambda at, run: measures.put_small(at, load, run, seconds)),
        Figure("GET 10 KiB, c=16", "1/s", lambda at, run: measures.get_small(at, load, run, seconds),
               measures.fill_small),
        Figure(f"LIST {sizes.keys:,} keys", "keys/s", lambda at, _: measures.list_all(at, sizes.keys),
               lambda at: measures.fill_for_listing(at, sizes.keys)),
    ]  # fmt: skip


def check_out(revision: str, folder: Path) -> None:
    """The files of a commit, in `folder`. Raises CalledProcessError for one that is not there."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x"], cwd=folder, check=True, input=archive)


class Sides:
    """The work tree and another version. At most one of them runs at a time; the other is stopped where it is."""

    def __init__(self, folder: Path, source: Path) -> None:
        self._ours = Atoll(folder / "ours", source=ROOT)
        self._other = Atoll(folder / "other", source=source)

    def start(self) -> None:
        for server in (self._ours, self._other):
            server.start()
            measures.make_bucket(server.endpoint)
            server.pause()

    def pairs(self, figure: Figure, rounds: int) -> list[tuple[float, float]]:
        """What was measured in each round: of the work tree, of the other."""
        found: dict[Atoll, list[float]] = {self._ours: [], self._other: []}
        for server in found:
            with awake(server):
                figure.fill(server.endpoint)
        for number in range(rounds):
            for server in list(found)[:: -1 if number % 2 else 1]:
                with awake(server):
                    found[server].append(figure.measure(server.endpoint, number))
        return list(zip(found[self._ours], found[self._other], strict=True))

    def stop(self) -> None:
        self._ours.stop()
        self._other.stop()


@contextlib.contextmanager
def awake(server: Atoll) -> Iterator[None]:
    """A stopped server runs in here."""
    server.resume()
    time.sleep(SETTLE)
    try:
        yield
    finally:
        server.pause()


def compare(folder: Path, revision: str, rounds: int, sizes: Sizes) -> bool:
    """Print every figure; whether none is worse."""
    check_out(revision, folder / "source")
    sides = Sides(folder, folder / "source")
    good = True
    try:
        sides.start()
        print(f"{'':34} {'work tree':>11} {revision[:11]:>11} {'ratio':>7}   95 % of it", flush=True)
        for figure in figures(sizes, folder / "load"):
            pairs = sides.pairs(figure, rounds)
            verdict = judge([ours / other for ours, other in pairs])
            good = good and verdict.word != "worse"
            ours, other = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
            print(
                f"{figure.name:34} {ours:>11,.1f} {other:>11,.1f} {verdict.ratio:>7.3f}   {verdict.low:.3f} to "
                f"{verdict.high:.3f}  {verdict.word:6}  {figure.unit}",
                flush=True,
            )
    finally:
        sides.stop()
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description="Whether the work tree is slower than another commit.")
    parser.add_argument("revision", metavar="REV", help="a commit, as git names it")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--large", type=int, default=512, help="MiB of the large object, a multiple of 64")
    parser.add_argument("--seconds", type=int, default=4, help="of each run of small requests")
    parser.add_argument("--keys", type=int, default=20_000, help="that are listed")
    parser.add_argument("--folder", type=Path, help="where to put the data (a real file system)")
    chosen = parser.parse_args()
    base = chosen.folder or ROOT / "data"
    base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="compare-", dir=base))
    began = time.monotonic()
    try:
        good = compare(folder, chosen.revision, chosen.rounds, Sizes(chosen.large, chosen.seconds, chosen.keys))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    load = " ".join(f"{average:.1f}" for average in os.getloadavg())
    print(f"{chosen.rounds} pairs in {time.monotonic() - began:.0f} s; load average {load}")
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
