"""The process that forks the further ones may itself go away, and none outlives its gateway."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.harness.live_server import LiveServer, alive
from tests.processes.family import COUNT, Family, kill

BUCKET = "bucket"


@pytest.fixture
def family(tmp_path: Path) -> Family:
    return Family(tmp_path)


def gone(pids: list[int], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, pids))


def test_without_it_those_that_are_there_go_on(family: Family) -> None:
    family.start()
    try:
        nursery, guests = family.nursery(), family.guests()
        assert nursery is not None
        assert len(guests) == COUNT - 1
        family.client().create_bucket(Bucket=BUCKET)
        kill(nursery)
        assert gone([nursery])
        clients = [family.client() for _ in range(COUNT)]
        for number, client in enumerate(clients):
            client.put_object(Bucket=BUCKET, Key=f"{number}", Body=b"x" * 20_000)
        assert [family.connections(pid) for pid in guests] == [1] * len(guests)
        kill(guests[0])
        assert gone(guests[:1])
        deadline = time.monotonic() + 10
        while not any("fewer processes serve" in line for line in family.output):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for _ in range(2 * COUNT):
            listed = family.client().list_objects_v2(Bucket=BUCKET)
            assert listed["KeyCount"] == COUNT
        assert family.stop() == 0
        assert gone(guests)
    finally:
        family.kill()


def test_one_that_hangs_holds_up_neither_requests_nor_the_end(family: Family) -> None:
    family.start()
    try:
        nursery, guests = family.nursery(), family.guests()
        assert nursery is not None
        family.client().create_bucket(Bucket=BUCKET)
        os.kill(nursery, signal.SIGSTOP)
        kill(guests[0])
        assert gone(guests[:1])
        time.sleep(2)  # until it is noticed
        for _ in range(2 * COUNT):
            assert family.client().head_bucket(Bucket=BUCKET)
        assert family.stop() == 0
        assert gone([nursery, *guests])
    finally:
        family.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_stays_when_the_gateway_has_gone(family: Family, number: signal.Signals) -> None:
    family.start()
    nursery, guests = family.nursery(), family.guests()
    assert nursery is not None
    os.kill(family.pid, number)
    family.wait()
    assert gone([nursery, *guests])


def test_signals_to_the_whole_group_end_it_in_order(family: Family) -> None:
    """As from a terminal, or from a service manager."""
    family.start()
    everyone = [family.pid, family.nursery() or 0, *family.guests()]
    for _ in range(2):
        for pid in everyone:
            os.kill(pid, signal.SIGHUP)
    client = family.client()
    client.create_bucket(Bucket=BUCKET)
    assert all(map(alive, everyone))
    for pid in everyone:
        os.kill(pid, signal.SIGINT if pid % 2 else signal.SIGTERM)
    assert family.wait() == 0
    assert gone(everyone)
    assert not [line for line in family.output if "Traceback" in line or '"level":"error"' in line]


def test_one_process_needs_none(tmp_path: Path) -> None:
    server = LiveServer(tmp_path, processes=1)
    server.start()
    try:
        assert server.nursery() is None
    finally:
        server.stop()
