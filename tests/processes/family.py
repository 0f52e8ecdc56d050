"""A server of several processes, and which of them serves what."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.harness.live_server import LiveServer

COUNT = 3


class Family(LiveServer):
    """A host and its guests, on a catalog in the data folder."""

    def __init__(self, folder: Path, *, count: int = COUNT, config: str = "") -> None:
        super().__init__(folder, config=config, processes=count)
        self.count = count

    def connections(self, pid: int) -> int:
        """Connections of clients that a process serves now."""
        held = set()
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                held.add(str(link.readlink()))
            except FileNotFoundError:
                continue
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        here = f"0100007F:{self.port:04X}"
        return sum(
            fields[1] == here and fields[3] == "01" and f"socket:[{fields[9]}]" in held
            for fields in map(str.split, lines)
        )

    def wait_until_whole(self, timeout: float = 30.0) -> None:
        """Until every process is there and takes connections."""
        deadline = time.monotonic() + timeout
        while len(self.guests()) < self.count - 1 or self._serving() < self.count:
            assert time.monotonic() < deadline, f"{len(self.guests())} guests\n{''.join(self.output[-20:])}"
            time.sleep(0.1)

    def _serving(self) -> int:
        """How many processes got one of so many connections, opened one after the other."""
        clients = [self.client() for _ in range(self.count)]
        for client in clients:
            client.list_buckets()
        found = sum(self.connections(pid) > 0 for pid in (self.pid, *self.guests()))
        for client in clients:
            client.close()
        return found


def kill(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)
