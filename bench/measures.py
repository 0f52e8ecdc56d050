"""What is measured of one server. Each function prepares what it needs and returns one figure (higher is better)."""

from __future__ import annotations

import random
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from bench import wrk
from bench.client import RawClient, RequestFailed, put_all
from bench.processes import memory
from bench.signing import Endpoint, RequestSigner

MIB = 1 << 20
BUCKET = "/bench"
BLOCK = memoryview(random.Random(0).randbytes(64 * MIB))
SMALL = random.Random(1).randbytes(10 * 1024)
RANGE = 64 * 1024
SECONDS = 8  # of a run of small requests
MOST_PUTS = 7_500  # a second that requests are made for beforehand
LISTED = 100_000
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


def make_bucket(endpoint: Endpoint) -> None:
    client = RawClient(endpoint)
    client.request("PUT", BUCKET)
    client.close()


def put_large(endpoint: Endpoint, megabytes: int = 512) -> float:
    """MB/s (10^6) of one PUT of `megabytes` MiB."""
    client = RawClient(endpoint)
    seconds = client.upload(f"{BUCKET}/large-{megabytes}", BLOCK, megabytes // 64)
    client.close()
    return megabytes * MIB / seconds / 1e6


def get_large(endpoint: Endpoint, megabytes: int = 512) -> float:
    """MB/s of one GET of what `put_large` stored."""
    client = RawClient(endpoint)
    seconds, count = client.download(f"{BUCKET}/large-{megabytes}")
    client.close()
    if count != megabytes * MIB:
        raise RequestFailed(f"{count} bytes came back")
    return count / seconds / 1e6


def put_small(endpoint: Endpoint, folder: Path, run: int, seconds: int = SECONDS) -> float:
    """Objects of 10 KiB a second, 16 connections, new keys."""
    signer = RequestSigner(endpoint)
    count = MOST_PUTS * seconds
    heads = [signer.head("PUT", f"{BUCKET}/small/{run}/{n:06d}", length=len(SMALL)) for n in range(count)]
    return wrk.run(endpoint, folder, heads, body=SMALL, seconds=seconds).rate


def fill_small(endpoint: Endpoint) -> None:
    """The 10,000 objects that `get_small` reads."""
    put_all(endpoint, [f"{BUCKET}/read/{n:06d}" for n in range(10_000)], SMALL)


def get_small(endpoint: Endpoint, folder: Path, run: int, seconds: int = SECONDS) -> float:
    """Reads of 10 KiB objects a second, 16 connections, over 10,000 keys in random order."""
    signer = RequestSigner(endpoint)
    keys = random.Random(run).sample(range(10_000), 10_000)
    heads = [signer.head("GET", f"{BUCKET}/read/{n:06d}") for n in keys]
    return wrk.run(endpoint, folder, heads, seconds=seconds).rate


def get_ranges(endpoint: Endpoint, folder: Path, run: int, seconds: int = SECONDS) -> float:
    """Reads of 64 KiB at random offsets of a 1 GiB object a second, 16 connections."""
    signer = RequestSigner(endpoint)
    seeded = random.Random(run)
    heads = []
    for _ in range(5_000):
        start = seeded.randrange(1024 * MIB - RANGE)
        span = {"Range": f"bytes={start}-{start + RANGE - 1}"}
        heads.append(signer.head("GET", f"{BUCKET}/large-1024", headers=span))
    return wrk.run(endpoint, folder, heads, seconds=seconds).rate


def fill_for_listing(endpoint: Endpoint, count: int = LISTED) -> None:
    """One-byte objects under `listed/`."""
    put_all(endpoint, [f"{BUCKET}/listed/{n % 100:02d}/{n:06d}" for n in range(count)], b"x")


def list_all(endpoint: Endpoint, count: int = LISTED) -> float:
    """Keys a second of listing `listed/` whole, by pages of 1,000, one after the other."""
    client = RawClient(endpoint)
    query = {"list-type": "2", "prefix": "listed/", "max-keys": "1000"}
    total = 0
    seconds = 0.0
    while True:
        started = time.perf_counter()
        page = client.request("GET", BUCKET, query).body
        seconds += time.perf_counter() - started
        root = ElementTree.fromstring(page)
        total += len(root.findall(f"{NAMESPACE}Contents"))
        token = root.findtext(f"{NAMESPACE}NextContinuationToken")
        if not token:
            break
        query["continuation-token"] = token
    client.close()
    if total != count:
        raise RequestFailed(f"{total} keys were listed")
    return total / seconds


def peak_memory(endpoint: Endpoint, pid: int, megabytes: int) -> float:
    """Highest PSS in MiB while one client PUTs `megabytes` and another GETs an object of that size."""
    put_large(endpoint, megabytes)
    failures: list[BaseException] = []

    def work(call: str) -> None:
        try:
            client = RawClient(endpoint)
            if call == "PUT":
                client.upload(f"{BUCKET}/memory", BLOCK, megabytes // 64)
            else:
                client.download(f"{BUCKET}/large-{megabytes}")
            client.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(call,)) for call in ("PUT", "GET")]
    peak = 0
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, memory(pid))
        time.sleep(0.1)
    if failures:
        raise failures[0]
    client = RawClient(endpoint)
    client.request("DELETE", f"{BUCKET}/memory")
    client.close()
    return peak / MIB
