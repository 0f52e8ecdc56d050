"""`python -m bench.gateways`: small objects by one, two and three gateways on PostgreSQL beside one on LMDB.

All are `atoll serve`, of one process each (`--processes`: of so many the one on LMDB), on six disk nodes of one file
system, every write synced, PostgreSQL's too; requests are signed beforehand and sent by `wrk`, the connections of a
figure shared among the gateways. The four deployments are measured in turns, and those whose turn it is not are
stopped. A figure is the median of the rounds; ratios are medians of the rounds' ratios.

Clients, gateways and database share the machine's cores, so processor time per request is shown beside the rates: what
one of them costs tells what a machine with more cores would do. Aborts come from the gateways' own metrics: statements
that the database refused, and transactions that ran again, for each commit.

Writes `bench/results-gateways.json` and `docs/images/gateways.svg`. Floors: 0.5 × LMDB with two gateways, 1 % of aborts
with 64 connections on one prefix. About a quarter of an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import json
import os
import random
import re
import resource
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from bench import measures, wrk
from bench.chart import Panel, draw
from bench.processes import family_cpu
from bench.signing import Endpoint, RequestSigner
from tests.harness.gateways import Cluster
from tests.harness.live_server import ROOT_KEY_ID, ROOT_SECRET, LiveServer
from tests.harness.postgres_server import PostgresServer

ROOT = Path(__file__).resolve().parents[1]
SERVE = [str(Path(sys.executable).with_name("atoll")), "serve"]
HOT = 64  # connections whose aborts are judged
SETTLE = 1.0  # seconds between waking a deployment and measuring it
FLOOR_RATIO, FLOOR_ABORTS = 0.5, 0.01
INLINE = random.Random(2).randbytes(1024)
_EVENT = re.compile(r'^atoll_catalog_events_total\{event="(\w+)"\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Figure:
    """What is measured: `body` is empty for reads. All keys of a run of writes are new and lie under one prefix."""

    name: str
    connections: int
    body: bytes


FIGURES = (
    Figure("PUT 10 KiB", 16, measures.SMALL),
    Figure("PUT 10 KiB", 64, measures.SMALL),
    Figure("GET 10 KiB", 16, b""),
    Figure("GET 10 KiB", 64, b""),
    Figure("PUT 1 KiB", 16, INLINE),
    Figure("PUT 1 KiB", 64, INLINE),
)
WARM_UP, WARM_UP_SECONDS = Figure("GET 10 KiB", 64, b""), 8


@dataclass(frozen=True, slots=True)
class Sample:
    """One run. CPU is in seconds per 1,000 requests; aborts are per commit, 0 where there is no shared catalog."""

    rate: float
    gateways_cpu: float
    database_cpu: float
    client_cpu: float
    refused: float
    again: float


@dataclass(frozen=True, slots=True)
class Row(Sample):
    """The medians of one figure on one deployment."""

    figure: str
    connections: int
    gateways: int  # on PostgreSQL; 0 for the one on LMDB
    ratio: float  # to LMDB's rate


class Deployment:
    """Gateways on one catalog, stopped but for their turns. `database` is the process of their PostgreSQL."""

    def __init__(self, servers: Sequence[LiveServer], database: int | None) -> None:
        self._servers, self._database = servers, database

    @property
    def gateways(self) -> int:
        return 0 if self._database is None else len(self._servers)

    def start(self, folder: Path) -> None:
        """Start all, store what is read later, in packs as large as they become, and let every gateway read it once."""
        for server in self._servers:
            server.start(timeout=120)
        measures.make_bucket(self._endpoints()[0])
        measures.fill_small(self._endpoints()[0])
        for worker in ("settling", "compaction"):
            done = self._servers[0].command("worker", "run", worker, timeout=300)
            if done.returncode:
                raise RuntimeError(done.stdout + done.stderr)
        self._pause()
        self.run(WARM_UP, folder, -1, WARM_UP_SECONDS)

    def _endpoints(self) -> list[Endpoint]:
        return [Endpoint("127.0.0.1", server.port, ROOT_KEY_ID, ROOT_SECRET) for server in self._servers]

    def _pause(self) -> None:
        for server in self._servers:
            server.pause()

    def kill(self) -> None:
        for server in self._servers:
            server.kill()

    def run(self, figure: Figure, folder: Path, number: int, seconds: int) -> Sample:
        """Send a figure's requests to all gateways at once. Raises LoadFailed."""
        endpoints = self._endpoints()
        shares = [figure.connections * (n + 1) // len(endpoints) - figure.connections * n // len(endpoints)
                  for n in range(len(endpoints))]  # fmt: skip
        scripts = [
            wrk.prepare(folder / str(place), heads(figure, endpoint, number, place, seconds), figure.body)
            for place, endpoint in enumerate(endpoints)
        ]
        for server in self._servers:
            server.resume()
        try:
            time.sleep(SETTLE)
            events, gateways, database, clients = self._events(), self._cpu(), self._database_cpu(), client_cpu()
            with concurrent.futures.ThreadPoolExecutor(len(endpoints)) as pool:
                sent = [
                    pool.submit(wrk.send, endpoint, script, connections=share, seconds=seconds)
                    for endpoint, script, share in zip(endpoints, scripts, shares, strict=True)
                ]
                loads = [one.result() for one in sent]
            thousands = sum(load.requests for load in loads) / 1000
            after = self._events()
            met = {name: count - events[name] for name, count in after.items()}
            commits = max(met.get("transactions", 0.0), 1.0)
            return Sample(
                rate=sum(load.rate for load in loads),
                gateways_cpu=(self._cpu() - gateways) / thousands,
                database_cpu=(self._database_cpu() - database) / thousands,
                client_cpu=(client_cpu() - clients) / thousands,
                refused=met.get("collisions", 0.0) / commits,
                again=met.get("stale", 0.0) / commits,
            )
        finally:
            self._pause()

    def _cpu(self) -> float:
        return sum(family_cpu(server.pid) for server in self._servers)

    def _database_cpu(self) -> float:
        return 0.0 if self._database is None else family_cpu(self._database)

    def _events(self) -> Mapping[str, float]:
        """What the gateways' commits have met so far, added up."""
        total: dict[str, float] = {}
        for server in self._servers:
            with urllib.request.urlopen(f"{server.url}/-/metrics", timeout=30) as page:
                for name, count in _EVENT.findall(page.read().decode()):
                    total[name] = total.get(name, 0.0) + float(count)
        return total


def heads(figure: Figure, endpoint: Endpoint, number: int, place: int, seconds: int) -> list[bytes]:
    """Signed requests of one run at one of several gateways, which write neighbouring keys at the same time."""
    signer, bucket = RequestSigner(endpoint), measures.BUCKET
    if not figure.body:
        keys = random.Random(f"{number}/{place}").sample(range(10_000), 10_000)
        return [signer.head("GET", f"{bucket}/read/{key:06d}") for key in keys]
    prefix = f"{bucket}/hot/{len(figure.body)}/{figure.connections}/{number}"
    count = measures.MOST_PUTS * seconds
    return [signer.head("PUT", f"{prefix}/{key:06d}-{place}", length=len(figure.body)) for key in range(count)]


def client_cpu() -> float:
    """CPU seconds of all load generators so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Alone(LiveServer):
    """A gateway with its catalog in its data folder, of one process or several."""

    def __init__(self, folder: Path, processes: int) -> None:
        super().__init__(folder, processes=processes)

    def command_line(self) -> list[str]:
        return [*SERVE, "--init"]


def deployments(folder: Path, postgres: PostgresServer, counts: Sequence[int], *, processes: int) -> list[Deployment]:
    """One on LMDB, then one for each count of gateways on PostgreSQL, each with a database of its own; not started."""
    found = [Deployment([Alone(folder / "lmdb", processes)], None)]
    for count in counts:
        database = asyncio.run(postgres.new_database())
        cluster = Cluster(folder / f"postgres-{count}", postgres, database, count=count)
        for place, gateway in enumerate(cluster.gateways):
            gateway.program = SERVE if place else [*SERVE, "--init"]
        found.append(Deployment(cluster.gateways, postgres.pid))
    return found


def measure(figure: Figure, chosen: Sequence[Deployment], folder: Path, rounds: int, seconds: int) -> list[Row]:
    """A figure on all deployments, the first of which the others are compared with."""
    samples: list[list[Sample]] = [[] for _ in chosen]
    for number in range(rounds):
        order = list(zip(chosen, samples, strict=True))[:: -1 if number % 2 else 1]
        for deployment, found in order:
            found.append(deployment.run(figure, folder, number, seconds))
    rows = []
    for deployment, found in zip(chosen, samples, strict=True):
        rows.append(
            Row(
                **{each.name: statistics.median(getattr(one, each.name) for one in found) for each in fields(Sample)},
                figure=figure.name,
                connections=figure.connections,
                gateways=deployment.gateways,
                ratio=statistics.median(one.rate / other.rate for one, other in zip(found, samples[0], strict=True)),
            )
        )
    return rows


def show(row: Row) -> None:
    where = "LMDB" if not row.gateways else f"PostgreSQL, {row.gateways} gateway{'s' if row.gateways > 1 else ''}"
    print(
        f"{row.figure:10} c={row.connections:<3} {where:23} {row.rate:>8,.0f}/s {row.ratio:>5.2f} ×   CPU s/1,000: "
        f"{row.gateways_cpu:.2f} + {row.database_cpu:.2f} + {row.client_cpu:.2f}   refused {row.refused:.2%}, "
        f"again {row.again:.2%}",
        flush=True,
    )


def panels(rows: Sequence[Row]) -> list[Panel]:
    """Rates by the number of gateways, a panel for each kind of request; the level of one on LMDB beside."""
    found = []
    for figure in dict.fromkeys(row.figure for row in rows):
        lines, levels = {}, {}
        for connections in dict.fromkeys(row.connections for row in rows):
            own = [row for row in rows if (row.figure, row.connections) == (figure, connections)]
            name = f"{connections} connections"
            lines[name] = [(row.gateways, row.rate) for row in own if row.gateways]
            levels[name] = next(row.rate for row in own if not row.gateways)
        found.append(Panel(figure, lines, levels))
    return found


def misses(rows: Sequence[Row]) -> list[str]:
    """Which floors are missed, in words."""
    slow = [
        f"{row.figure}, c={row.connections}: {row.ratio:.2f} × LMDB with two gateways"
        for row in rows
        if row.gateways == 2 and row.ratio < FLOOR_RATIO
    ]
    aborted = [
        f"{row.figure}, c={row.connections}, {row.gateways} gateways: {max(row.refused, row.again):.2%} aborts"
        for row in rows
        if row.connections == HOT and max(row.refused, row.again) >= FLOOR_ABORTS
    ]
    return slow + aborted


def main() -> None:
    parser = argparse.ArgumentParser(description="Small objects by several gateways on PostgreSQL beside one on LMDB.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each run")
    parser.add_argument("--gateways", type=int, nargs="+", default=[1, 2, 3], metavar="N")
    parser.add_argument("--processes", type=int, default=1, help="of the gateway on LMDB")
    parser.add_argument("--figure", action="append", help="only those whose name begins so")
    parser.add_argument("--folder", type=Path, help="where to put the data (a real file system)")
    chosen = parser.parse_args()
    base = chosen.folder or ROOT / "data"
    base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="gateways-", dir=base))
    postgres = PostgresServer(durable=True)
    found: list[Deployment] = []
    rows: list[Row] = []
    try:
        postgres.start()
        found = deployments(folder, postgres, chosen.gateways, processes=chosen.processes)
        for deployment in found:
            deployment.start(folder / "load")
        for figure in FIGURES:
            if chosen.figure and not any(figure.name.startswith(name) for name in chosen.figure):
                continue
            for row in measure(figure, found, folder / "load", chosen.rounds, chosen.seconds):
                rows.append(row)
                show(row)
    finally:
        for deployment in found:
            deployment.kill()
        postgres.close()
        shutil.rmtree(folder, ignore_errors=True)
    (ROOT / "bench" / "results-gateways.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if not chosen.figure and chosen.processes == 1:
        (ROOT / "docs" / "images" / "gateways.svg").write_text(
            draw(panels(rows), across="gateways on PostgreSQL", unit="requests a second", level="one gateway on LMDB")
        )
    print(f"load average {' '.join(f'{average:.1f}' for average in os.getloadavg())}; also in results-gateways.json")
    raise SystemExit("; ".join(misses(rows)) or 0)


if __name__ == "__main__":
    main()
