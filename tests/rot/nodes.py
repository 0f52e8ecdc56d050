"""The node folders of a running server, to be damaged behind its back, and what the server says of them."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.admin.client import AdminClient
from tests.harness.live_server import LiveServer

NODES = 6
_PIECE = re.compile(r"[0-9a-e][0-9a-f]{15}-[0-9a-f]{32}")  # of objects, not of snapshots
_EVENT = re.compile(r'^atoll_engine_events(?:_total)?\{event="(\w+)"\} ([0-9.e+]+)$', re.MULTILINE)


class Nodes:
    """Folders 1 to 6."""

    def __init__(self, server: LiveServer) -> None:
        self._server = server
        self._admin = AdminClient(server.data)
        self._away: dict[int, Path] = {}

    def folder(self, number: int) -> Path:
        return self._server.nodes / str(number)

    def pieces(self, number: int) -> list[Path]:
        """Every piece on a node, in an order that does not depend on their random names: by size, then by age."""
        found = []
        for path in self.folder(number).rglob("*"):
            if _PIECE.fullmatch(path.name):
                with contextlib.suppress(FileNotFoundError):  # the server replaces pieces by itself
                    status = path.stat()
                    found.append((status.st_size, status.st_mtime_ns, path))
        return [path for _, _, path in sorted(found)]

    # Damage. All of it in place, so that a descriptor that the server holds sees it too, and nothing is made anew where
    # the server has just replaced a piece. True if there was something to damage.

    def flip(self, path: Path, rng: random.Random, *, low: int = 0, high: int | None = None) -> bool:
        """Turn one bit in bytes [low, high)."""
        with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
            end = os.fstat(file.fileno()).st_size if high is None else high
            if low < end:
                place = rng.randrange(low, end)
                (byte,) = os.pread(file.fileno(), 1, place)
                os.pwrite(file.fileno(), bytes([byte ^ 1 << rng.randrange(8)]), place)
                return True
        return False

    def truncate(self, path: Path, rng: random.Random) -> bool:
        with contextlib.suppress(FileNotFoundError):
            if size := path.stat().st_size:
                os.truncate(path, rng.randrange(size))
                return True
        return False

    def swap(self, one: Path, other: Path) -> bool:
        """Exchange the bytes of two pieces."""
        with contextlib.suppress(FileNotFoundError), one.open("r+b") as first, other.open("r+b") as second:
            contents = first.read(), second.read()
            for file, content in ((first, contents[1]), (second, contents[0])):
                file.seek(0)
                file.write(content)
                file.truncate()
            return contents[0] != contents[1]
        return False

    def delete(self, path: Path) -> bool:
        with contextlib.suppress(FileNotFoundError):
            os.truncate(path, 0)  # who has it open finds nothing either
            path.unlink()
            return True
        return False

    # Folders that go and come back, as an unmounted disk does.

    def take_away(self, number: int) -> None:
        away = self._server.folder / f"away-{number}"
        self.folder(number).rename(away)
        self._away[number] = away

    def bring_back(self, number: int) -> None:
        self._away.pop(number).rename(self.folder(number))

    def destroy(self, number: int) -> None:
        shutil.rmtree(self.folder(number))

    # What the server says.

    def counters(self) -> dict[str, int]:
        """The engine's counters, from the metrics page."""
        with urllib.request.urlopen(f"{self._server.url}/-/metrics") as answer:
            text = answer.read().decode()
        return {name: int(float(count)) for name, count in _EVENT.findall(text)}

    def status(self) -> dict[str, Any]:
        """What `atoll status --json` prints."""
        status: dict[str, Any] = self._admin.call("GET", "/status")
        return status

    def check(self, *, repair: bool) -> tuple[dict[str, Any], list[str]]:
        """What `atoll check` reports: its last step, and every damage that it named."""
        last: dict[str, Any] = {}
        damage: list[str] = []
        for last in self._admin.stream("POST", "/check", repair="yes" if repair else "no", resume=""):
            damage += last["damage"]
        return last, damage

    def wait_for(self, what: Callable[[dict[str, Any]], bool], *, seconds: float = 30.0) -> dict[str, Any]:
        """Poll the status until it is as wanted. Raises AssertionError."""
        status = self.comes_true(what, seconds=seconds)
        assert status is not None, self.status()
        return status

    def comes_true(self, what: Callable[[dict[str, Any]], bool], *, seconds: float) -> dict[str, Any] | None:
        """Poll the status until it is as wanted; None if it never is."""
        deadline = time.monotonic() + seconds
        while not what(status := self.status()):
            if time.monotonic() > deadline:
                return None
            time.sleep(0.05)
        return status

    @contextmanager
    def watched(self) -> Iterator[set[str]]:
        """Gather every damage that the status names while the block runs: the server repairs by itself."""
        seen: set[str] = set()
        stop = threading.Event()

        def watch() -> None:
            while not stop.is_set():
                seen.update(self.status()["health"]["damage"])
                stop.wait(0.005)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield seen
        finally:
            stop.set()
            thread.join()
