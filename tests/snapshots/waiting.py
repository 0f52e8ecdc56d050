"""Waiting for what a running server tells of its snapshots."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gateway.admin.client import AdminClient
from tests.harness.live_server import LiveServer


def wait_for(server: LiveServer, until: Callable[[dict[str, Any]], bool], seconds: float = 90.0) -> dict[str, Any]:
    """Until what is told of snapshots is so."""
    admin, end = AdminClient(server.data), time.monotonic() + seconds
    while True:
        shown: dict[str, Any] = admin.call("GET", "/status")["snapshots"]
        if until(shown):
            return shown
        assert time.monotonic() < end, shown
        time.sleep(0.05)


def wait_for_snapshot(server: LiveServer) -> dict[str, Any]:
    """Until every change is in a snapshot."""
    return wait_for(server, lambda shown: shown["exists"] and shown["lag_seconds"] == 0)
