"""Targets that are none, databases that lie, operators that walk away: the catalog goes on, nothing is half taken."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog.copying.moving import claim
from catalog.postgres_engine.catalog import PostgresCatalog
from gateway.admin.client import Refused
from tests.catalog.conformance import A, put
from tests.catalog_copy.flipping import FLIPPING
from tests.catalog_copy.scene import BUCKET, check, copy_to, marks
from tests.cli.cli_support import wait_for
from tests.harness.cutting_proxy import CuttingProxy
from tests.harness.live_server import LiveServer, free_port, live_server
from tests.harness.postgres_server import PostgresServer

BODIES: dict[str, bytes | None] = {f"key/{number}": b"b" * number * 100 for number in range(30)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One that all of this must not harm."""
    with live_server(tmp_path_factory.mktemp("source")) as started:
        client = started.client()
        client.create_bucket(Bucket=BUCKET)
        for key, body in BODIES.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=body)
        yield started
        check(started.client(), BODIES)
        assert started.stop() == 0
        assert marks(started.data) == (None, None)


def still_writes(server: LiveServer) -> None:
    server.client().put_object(Bucket=BUCKET, Key="key/1", Body=BODIES["key/1"])


@pytest.mark.parametrize("switch", [False, True])
def test_folders_that_are_no_target(server: LiveServer, tmp_path: Path, switch: bool) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "data.mdb").write_bytes(b"some bytes")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "deployment").write_text("ab" * 16 + "\n")
    before = sorted(tmp_path.rglob("*"))
    for target, why in (
        ("relative/folder", "absolute path"),
        ("mysql://user:hidden@localhost/database", "must be a database's address"),
        (str(tmp_path / "file"), "is no folder"),
        (str(tmp_path / "absent" / "data"), "is no folder"),
        (str(tmp_path / "catalog"), "is itself a catalog"),
        (str(tmp_path / "other"), "belongs to the deployment " + "ab" * 16),
        (str(server.data), "is open in another process"),
    ):
        with pytest.raises(Refused, match=why) as refused:
            copy_to(server, target, switch=switch)
        assert "hidden" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before
    still_writes(server)


def test_databases_that_are_no_target(server: LiveServer, postgres: PostgresServer, url: str) -> None:
    for target, why in (
        (f"postgresql://user:hidden@127.0.0.1:{free_port()}/atoll", "can't be reached"),
        ("postgresql://user:hidden@127.0.0.1:port/atoll", "is not understood"),
        (url + "-absent", "can't be reached"),
    ):
        with pytest.raises(Refused, match=why) as refused:
            copy_to(server, target, switch=True)
        assert "hidden" not in str(refused.value)
        assert "secret-of-the-tests" not in str(refused.value)

    async def prepare(address: str, change: Callable[[PostgresCatalog], Coroutine[Any, Any, object]]) -> None:
        catalog = await PostgresCatalog.open(address)
        await change(catalog)
        await catalog.close()

    asyncio.run(prepare(url, lambda catalog: claim(catalog, b"e" * 16)))
    with pytest.raises(Refused, match="another deployment, " + (b"e" * 16).hex()):
        copy_to(server, url, switch=True)
    used = postgres.url(asyncio.run(postgres.new_database()))
    asyncio.run(prepare(used, lambda catalog: put(catalog, (A, b"1"))))
    with pytest.raises(Refused, match="is not empty"):
        copy_to(server, used, switch=True)
    assert marks(used) == (None, None)
    still_writes(server)


def test_a_row_that_the_target_does_not_keep_is_found(server: LiveServer, postgres: PostgresServer, url: str) -> None:
    """A database that flips one bit; once it is mended, copying again mends the copy."""
    database = url.rpartition("/")[2]
    marks(url)  # makes the tables
    asyncio.run(postgres.execute(database, FLIPPING))
    for switch in ((), ("--switch",)):
        refused = server.command("catalog", "copy", "--to", url, *switch)
        assert refused.returncode == 1
        assert "differs; the copy can't be used" in refused.stderr
        assert "Traceback" not in refused.stderr
    _, copy = marks(url)
    assert copy is not None
    assert not copy.sequence
    still_writes(server)
    asyncio.run(postgres.execute(database, "DROP TRIGGER flip ON atoll_rows"))
    mended = copy_to(server, url)
    assert mended["written"] > 0
    again = copy_to(server, url)
    assert again["written"] < mended["written"]


class Proxy:
    """A cutting proxy on a thread of its own."""

    def __init__(self, target: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.proxy = CuttingProxy(target)
        self.do(self.proxy.start())

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def stall(self) -> None:
        self._loop.call_soon_threadsafe(self.proxy.stall)

    def flow(self) -> None:
        self._loop.call_soon_threadsafe(self.proxy.flow)

    def close(self) -> None:
        self.do(self.proxy.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def test_an_operator_who_walks_away_ends_the_copy(server: LiveServer, postgres: PostgresServer, url: str) -> None:
    proxy = Proxy(postgres.port)
    try:
        slow = postgres.url(url.rpartition("/")[2], port=proxy.proxy.port)
        proxy.stall()
        program = [str(Path(sys.executable).with_name("atoll")), "catalog", "copy", "--to", slow]
        command = subprocess.Popen(
            program, env=server.environment(), cwd=server.folder, stderr=subprocess.STDOUT, stdout=subprocess.PIPE
        )

        def connected() -> bool:
            assert command.poll() is None, command.communicate()
            return proxy.proxy.connections > 0

        try:
            wait_for(connected, 90)
            with pytest.raises(Refused, match="copies its catalog already"):
                copy_to(server, url)
        finally:
            os.kill(command.pid, signal.SIGKILL)
            command.communicate()
        wait_for(lambda: _copies(server, url), 60)
    finally:
        proxy.flow()
        proxy.close()


def _copies(server: LiveServer, target: str) -> bool:
    """Copy, if no other copy is in the way."""
    try:
        return bool(copy_to(server, target)["end"])
    except Refused as refused:
        if "copies its catalog already" in str(refused):
            return False
        raise
