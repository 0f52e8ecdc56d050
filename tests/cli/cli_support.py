"""Reading what commands print, and waiting for what takes effect soon."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from tests.harness.live_server import LiveServer


def answer(server: LiveServer, *arguments: str) -> Any:
    """The JSON that a successful command prints."""
    done = server.command(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def status(server: LiveServer) -> Any:
    return answer(server, "status", "--json")


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until `condition` holds; a client's error counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except ClientError:
            pass
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)
