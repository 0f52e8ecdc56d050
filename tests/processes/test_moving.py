"""Connections that bring small writes move to the host between two requests, and back when they bring others."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from core.http.moving import SHOWN
from tests.processes.family import Family

BUCKET = "bucket"
BODY = os.urandom(4096)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    server = Family(tmp_path_factory.mktemp("moving"), count=2)
    try:
        server.start()
        with contextlib.closing(server.client()) as client:
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="read", Body=BODY)
        yield server
    finally:
        server.kill()


def one_connection(family: Family) -> Any:
    """A client that neither opens a second connection nor asks twice."""
    return family.client(config=Config(max_pool_connections=1, retries={"total_max_attempts": 1}))


def of_a_guest(family: Family) -> Any:
    """A client whose connection a guest serves."""
    family.wait_until_whole()
    guest = family.guests()[0]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        before = family.connections(guest)
        client = one_connection(family)
        client.list_buckets()
        if family.connections(guest) > before:
            return client
        client.close()
        time.sleep(0.05)
    raise AssertionError("no connection came to the guest")


def until(condition: Callable[[], bool], act: Callable[[int], object], most: float = 20.0) -> int:
    """Act until the condition holds; how often that was."""
    deadline, count = time.monotonic() + most, 0
    while not condition():
        assert time.monotonic() < deadline, f"it does not come true in {count} requests"
        act(count)
        count += 1
    return count


def test_small_writes_move_to_the_host_and_reads_back(family: Family) -> None:
    guest = family.guests()[0]
    with contextlib.closing(of_a_guest(family)) as client:
        held = _steady(family, guest)
        port = _local_port(family)

        def put(number: int) -> None:
            client.put_object(Bucket=BUCKET, Key=f"small/{number}", Body=BODY)

        def get(_: int) -> None:
            assert client.get_object(Bucket=BUCKET, Key="read")["Body"].read() == BODY

        assert until(lambda: family.connections(guest) < held, put) >= SHOWN
        here = family.connections(family.pid)
        put(-1)
        assert family.connections(family.pid) == here >= 1
        assert until(lambda: family.connections(guest) >= held, get) >= SHOWN
        get(0)
        assert _local_port(family) == port  # all on one connection
    count = sum(len(page["Contents"]) for page in family.client().get_paginator("list_objects_v2").paginate(
        Bucket=BUCKET, Prefix="small/"))  # fmt: skip
    assert count > SHOWN


def _steady(family: Family, guest: int) -> int:
    """How many connections a guest has once those that were closed before are gone."""
    seen = [family.connections(guest)]
    while len(seen) < 10 or len(set(seen[-10:])) > 1:
        assert len(seen) < 200, "connections come and go"
        time.sleep(0.05)
        seen.append(family.connections(guest))
    return seen[-1]


def _local_port(family: Family) -> set[str]:
    """The clients' ends of all connections with the server."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    server = f"0100007F:{family.port:04X}"
    return {fields[1] for fields in map(str.split, lines) if fields[2] == server and fields[3] == "01"}


def test_reads_and_large_writes_stay(family: Family) -> None:
    guest = family.guests()[0]
    with contextlib.closing(of_a_guest(family)) as client:
        held = family.connections(guest)
        large = os.urandom(128 << 10)
        for number in range(2 * SHOWN):
            client.put_object(Bucket=BUCKET, Key="large", Body=large)
            client.get_object(Bucket=BUCKET, Key="read")["Body"].read()
            if number % 8 == 0:
                time.sleep(0.1)  # the host says several times that it has room
        assert family.connections(guest) == held


def test_a_client_that_begins_its_next_request_early_is_heard(family: Family) -> None:
    """What was read of the next request stays with the process that read it."""
    guest = family.guests()[0]
    with contextlib.closing(family.client()) as client:
        client.create_bucket(Bucket="open", ACL="public-read-write")
    family.wait_until_whole()
    before = family.connections(guest)
    while True:
        one = socket.create_connection(("127.0.0.1", family.port))
        one.settimeout(10)
        _exchange(one, b"", _put(0))
        if family.connections(guest) > before:
            break
        one.close()
    with one:
        cut = 20
        rest = _put(1)
        for number in range(2, 6 * SHOWN):
            following = _put(number)
            _exchange(one, rest, following[:cut])  # one request whole, and the beginning of the next
            rest = following[cut:]
            if number % SHOWN == 0:
                time.sleep(0.6)  # the host says that it has room
        assert family.connections(guest) > before  # a move would have cut it
        _exchange(one, rest, b"")
        until(lambda: family.connections(guest) == before, lambda number: _exchange(one, _put(number), b""))


def _put(number: int) -> bytes:
    body = b"x" * 100
    return b"PUT /open/%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (number, len(body), body)


def _exchange(one: socket.socket, request: bytes, more: bytes) -> None:
    one.sendall(request + more)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        part = one.recv(4096)
        assert part, "the connection ended"
        answer += part
    assert answer.startswith(b"HTTP/1.1 200"), answer


def test_many_that_write_all_the_time_lose_nothing(family: Family) -> None:
    """Each answer comes, once and in order, however often connections move meanwhile."""
    ended = time.monotonic() + 6
    written: list[tuple[str, bytes]] = []

    def work(worker: int) -> list[tuple[str, bytes]]:
        done: list[tuple[str, bytes]] = []
        with contextlib.closing(one_connection(family)) as client:
            number = 0
            while time.monotonic() < ended:
                for _ in range(SHOWN + 8):
                    key, body = f"many/{worker}/{number}", f"{worker} {number}".encode() * 100
                    client.put_object(Bucket=BUCKET, Key=key, Body=body)
                    done.append((key, body))
                    number += 1
                for key, body in done[-2 * SHOWN - 16 :]:
                    assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body
        return done

    with ThreadPoolExecutor(12) as pool:
        for done in pool.map(work, range(12)):
            written.extend(done)
    assert _moved(family) > 12
    with contextlib.closing(family.client()) as client:
        listed = {
            found["Key"]
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="many/")
            for found in page["Contents"]
        }
    assert listed == {key for key, _ in written}


def _moved(family: Family) -> float:
    """Connections that moved so far."""
    with urllib.request.urlopen(f"{family.url}/-/metrics", timeout=10) as page:
        text = page.read().decode()
    return sum(
        float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith("atoll_connections_moved")
    )
