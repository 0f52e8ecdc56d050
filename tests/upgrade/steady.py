"""Clients that, as ones behind a balancer do, go to another gateway when theirs is gone, and take no other failure."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from botocore.config import Config
from botocore.exceptions import ConnectionClosedError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

from tests.harness.live_server import LiveServer
from tests.harness.load import content, tag

BUCKET = "steady"
_SIZES = (100, 20_000, 1_200_000)
#: Seconds between the requests of a thread: they are to be there all the time, not to fill the machine.
_PAUSE = 0.15
_PATIENCE = Config(connect_timeout=5, read_timeout=60)
_GONE = (EndpointConnectionError, ConnectTimeoutError, ConnectionClosedError, ReadTimeoutError)


class SteadyClients:
    """Threads that write keys of their own, and read, list and delete each other's."""

    def __init__(self, gateways: Sequence[LiveServer], *, threads: int = 2) -> None:
        self._clients = [gateway.client(config=_PATIENCE) for gateway in gateways]
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(threads)]
        self._held: dict[str, str] = {}  # key -> what it holds, acknowledged and not being deleted
        self._deleted: set[str] = set()
        self.answered = 0
        self.moved = 0  # requests that were sent again, to another gateway
        self.failures: list[str] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)

    def go_on(self, requests: int = 20) -> None:
        """Return when so many more requests were answered. Raises AssertionError for any that failed."""
        wanted, deadline = self.answered + requests, time.monotonic() + 90
        while self.answered < wanted:
            assert not self.failures, self.failures[:5]
            assert time.monotonic() < deadline, "requests are not answered any more"
            time.sleep(0.05)

    def verify(self) -> None:
        """Every acknowledged write is there, every acknowledged deletion too, at any gateway."""
        assert not self.failures, self.failures[:5]
        for client in self._clients:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
            listed = {entry["Key"] for page in pages for entry in page.get("Contents", [])}
            assert listed == set(self._held)
            assert not listed & self._deleted
        for number, (key, value) in enumerate(self._held.items()):
            client = self._clients[number % len(self._clients)]
            assert tag(client.get_object(Bucket=BUCKET, Key=key)["Body"].read()) == value, key

    # ---

    def _work(self, thread: int) -> None:
        seeded = random.Random(thread)
        number = 0
        while not self._stop.is_set():
            number += 1
            time.sleep(_PAUSE)
            try:
                self._write(seeded, f"{thread}/{number}")
                self._read(seeded)
                if number % 2 == 0:
                    self._delete(seeded)
            except Exception as error:  # whatever it is must be shown
                self.failures.append(f"{type(error).__name__}: {error}")
                return

    def _write(self, seeded: random.Random, key: str) -> None:
        body = content(seeded.getrandbits(48), seeded.choice(_SIZES))
        self._ask(seeded, lambda client: client.put_object(Bucket=BUCKET, Key=key, Body=body))
        with self._lock:
            self._held[key] = tag(body)

    def _read(self, seeded: random.Random) -> None:
        with self._lock:
            key = seeded.choice(list(self._held))
            value = self._held.pop(key)  # nobody deletes it meanwhile
        body = self._ask(seeded, lambda client: client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        assert tag(body) == value, f"{key} holds something else"
        answer = self._ask(seeded, lambda client: client.list_objects_v2(Bucket=BUCKET, Prefix=key))
        assert key in [entry["Key"] for entry in answer.get("Contents", [])], f"{key} is not listed"
        with self._lock:
            self._held[key] = value

    def _delete(self, seeded: random.Random) -> None:
        with self._lock:
            key = seeded.choice(list(self._held))
            del self._held[key]
        self._ask(seeded, lambda client: client.delete_object(Bucket=BUCKET, Key=key))
        self._deleted.add(key)
        answer = self._ask(seeded, lambda client: client.list_objects_v2(Bucket=BUCKET, Prefix=key))
        assert key not in [entry["Key"] for entry in answer.get("Contents", [])], f"{key} is listed still"

    def _ask(self, seeded: random.Random, call: Callable[[Any], Any]) -> Any:
        first = seeded.randrange(len(self._clients))
        for step in range(2 * len(self._clients)):
            try:
                answer = call(self._clients[(first + step) % len(self._clients)])
            except _GONE:
                with self._lock:
                    self.moved += 1
                continue
            with self._lock:
                self.answered += 1
            return answer
        raise ConnectionError("no gateway answers")
