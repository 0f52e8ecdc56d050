"""A catalog moved by the command from LMDB to PostgreSQL and back while clients write, through the public door."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.admin.client import AdminClient, Refused
from tests.catalog_copy.scene import (
    BUCKET,
    Stock,
    Writers,
    check,
    copy_to,
    marks,
    pieces,
    read,
    tidy_and_verify,
)
from tests.harness.live_server import LiveServer
from tests.harness.postgres_server import PostgresServer


def move(server: LiveServer, target: str, name: str) -> dict[str, bytes | None]:
    """Copy and then switch under load, as an operator does; what was acknowledged meanwhile."""
    writers = Writers(server, name=name)
    try:
        first = server.command("catalog", "copy", "--to", target)
        assert first.returncode == 0, first.stderr
        assert "all the same at sequence" in first.stdout
        writers.wait(20)
        done = server.command("catalog", "copy", "--to", target, "--switch")
    finally:
        written = writers.stop()
    assert done.returncode == 0, done.stderr
    assert "was moved; start servers" in done.stdout
    assert server.wait(5) == 0, "the command waits for its end"
    assert len(written) > 30
    assert writers.codes <= {"SlowDown"}
    assert "secret-of-the-tests" not in first.stdout + first.stderr + done.stdout + done.stderr
    return written


@pytest.mark.timeout(600)
def test_there_and_back_under_load(tmp_path: Path, postgres: PostgresServer) -> None:
    """Nothing acknowledged is lost on either way, and everything works on; then back to a place that was left."""
    url = postgres.url(asyncio.run(postgres.new_database()))
    embedded, networked = LiveServer(tmp_path), LiveServer(tmp_path, env={"ATOLL_CATALOG": url})
    folder = embedded.data
    try:
        embedded.start()
        stock = Stock(embedded)
        written = move(embedded, url, "there")
        assert marks(folder)[0] is not None

        networked.start()
        stock.check(networked, written)
        AdminClient(folder).call("POST", "/catalog/accept")
        with pytest.raises(Refused, match="the target was in use until it was moved to"):
            copy_to(networked, folder)
        (folder / "catalog").rename(folder / "catalog.before")
        written |= move(networked, str(folder), "back")
        assert marks(url)[0] is not None

        embedded.start()
        stock.check(embedded, written)
        tidy_and_verify(embedded)
        check(embedded.client(), {**stock.bodies, **written})
        embedded.client().put_object(Bucket=BUCKET, Key="since", Body=b"s" * 2_000_000)
        assert embedded.stop() == 0
        kept = pieces(embedded)

        reopened = networked.command("catalog", "reopen")
        assert reopened.returncode == 0, reopened.stderr
        networked.start()
        check(networked.client(), {**stock.bodies, **written})
        assert read(networked.client(), "since") is None
        admin = AdminClient(folder)
        assert any("nothing is deleted from nodes" in line for line in admin.call("GET", "/status")["warnings"])
        for worker in ("reclaim", "collection", "collection"):
            admin.call("POST", f"/workers/{worker}/run")
        assert kept <= pieces(networked), "the operator may still go the other way"
        admin.call("POST", "/catalog/accept")
    finally:
        embedded.kill()
        networked.kill()
