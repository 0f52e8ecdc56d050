"""What the tests of migrations share: an operator's commands, and waiting for a job to rest."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.harness.live_server import ROOT_KEY_ID, ROOT_SECRET, LiveServer


def bucket_name() -> str:
    return f"test-{secrets.token_hex(6)}"


def migrate(server: LiveServer, *arguments: str) -> Any:
    """`atoll migrate …`; its JSON answer. Raises AssertionError with what it printed."""
    done = server.command("migrate", *arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout) if "--json" in arguments else done.stdout


def begin(
    server: LiveServer, endpoint: str, source: str, target: str, *options: str, key: str = ROOT_KEY_ID
) -> dict[str, Any]:
    """Start a migration as the operator does, the secret in a file."""
    secret = _secret_file(server, ROOT_SECRET)
    keys = ("--access-key-id", key, "--secret-file", str(secret)) if key else ()
    job: dict[str, Any] = migrate(server, "start", endpoint, source, target, *keys, *options, "--json")
    return job


def _secret_file(server: LiveServer, secret: str) -> Path:
    path = server.folder / "source.secret"
    path.write_text(secret + "\n")
    return path


def status(server: LiveServer, job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = migrate(server, "status", job["id"], "--json")
    return found


def rest(server: LiveServer, job: dict[str, Any], *, timeout: float = 60.0) -> dict[str, Any]:
    """The job once it no longer runs."""
    deadline = time.monotonic() + timeout
    while (now := status(server, job))["state"] in ("running", "ending"):
        assert time.monotonic() < deadline, now
        time.sleep(0.1)
    return now


def report(server: LiveServer, job: dict[str, Any]) -> dict[str, dict[str, str]]:
    """key -> what is told of it."""
    done: subprocess.CompletedProcess[str] = server.command("migrate", "report", job["id"], "--json")
    assert done.returncode == 0, done.stderr
    return {one["key"]: one for one in map(json.loads, done.stdout.splitlines())}


def keys_of(client: Any, bucket: str, **options: Any) -> list[str]:
    """Every key that a listing shows, page by page."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, **options)
    return [one["Key"] for page in pages for one in page.get("Contents", ())]


def until(condition: Callable[[], bool], *, timeout: float = 30.0) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
