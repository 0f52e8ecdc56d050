"""`kill -9` of the server at each stage of a move, and what the next start and the next copy make of it."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from catalog.copying.marks import read_marks
from catalog.interface import Row
from catalog.keys import u64
from catalog.prefixes import ENGINE
from core.errors import StartRefused
from gateway.admin.client import AdminClient, NotRunning
from tests.catalog.conformance import put
from tests.catalog_copy import copying_process
from tests.catalog_copy.copying_process import move, open_place
from tests.catalog_copy.scene import BUCKET, Writers, check, copy_to, marks
from tests.harness.live_server import LiveServer, ServerFailed

#: Where the process ends, and whether the copy says that it is whole then. Behind each of them the source goes on.
STAGES = {
    "copy-claimed": False,
    "copy-run:2": False,
    "copy-copied": False,
    "copy-compared": False,
    "copy-settled": True,
}
ROWS: list[Row] = [(ENGINE + u64(number), random.Random(number).randbytes(number % 300)) for number in range(700)]
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Places:
    """Where the catalog is, and where it is to go."""

    source: str
    target: str

    def kill(self, point: str) -> None:
        """Move it in a process that ends at this point."""
        process = subprocess.run(
            [sys.executable, copying_process.__file__, self.source, self.target],
            env={**os.environ, "ATOLL_CRASH_POINT": point, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=120,
        )  # fmt: skip
        assert process.returncode == -9, process.stderr

    async def marks(self) -> tuple[bool, int | None]:
        """Whether the source says that it was moved, and the sequence of the copy's mark, if there is one."""
        one, other = await open_place(self.source), await open_place(self.target)
        try:
            (moved, _), (_, copy) = await one.read(read_marks), await other.read(read_marks)
            return moved is not None, None if copy is None else copy.sequence
        finally:
            await one.close()
            await other.close()

    async def contents(self, place: str) -> list[Row]:
        catalog = await open_place(place)
        try:
            return [row async for rows in catalog.export() for row in rows if row[0][:1] == ENGINE]
        finally:
            await catalog.close()


@pytest.fixture(params=["lmdb to postgres", "postgres to lmdb"])
def places(request: pytest.FixtureRequest, tmp_path: Path, url: str) -> Places:
    folder = str(tmp_path / "catalog")
    return Places(folder, url) if request.param == "lmdb to postgres" else Places(url, folder)


async def test_killed_at_every_stage_it_goes_on_where_it_was(places: Places) -> None:
    source = await open_place(places.source)
    await source.load(ROWS, sequence=1)
    await source.close()
    for point, whole in STAGES.items():
        await asyncio.to_thread(places.kill, point)
        moved, sequence = await places.marks()
        assert not moved
        assert sequence is not None
        assert bool(sequence) is whole
        source = await open_place(places.source)
        await put(source, (ENGINE + u64(1000 + len(point)), b"behind " + point.encode()))
        await source.close()
    expected = await places.contents(places.source)
    assert len(expected) > len(ROWS)
    await asyncio.to_thread(places.kill, "copy-retired")
    moved, sequence = await places.marks()
    assert moved
    assert sequence, "the source says where it went, so the copy is whole"
    assert await places.contents(places.target) == expected
    with pytest.raises(StartRefused, match="was moved to elsewhere"):
        await move(places.source, places.target)


async def test_killed_when_it_was_moved_it_is_moved(places: Places) -> None:
    source = await open_place(places.source)
    await source.load(ROWS, sequence=1)
    await source.close()
    await asyncio.to_thread(places.kill, "copy-moved")
    assert await places.marks() == (True, None)
    assert await places.contents(places.target) == ROWS


class Killed:
    """A server that dies while its catalog moves, and what its clients know."""

    def __init__(self, folder: Path, url: str) -> None:
        self.server, self.after = LiveServer(folder), LiveServer(folder, env={"ATOLL_CATALOG": url})
        self.place, self.target = self.server.data, url
        self.expected: dict[str, bytes | None] = {}

    def move_and_die(self, point: str) -> None:
        """Under load. What was acknowledged before this is there."""
        server = self.server.start(env={"ATOLL_CRASH_POINT": point})
        if not self.expected:
            self._fill()
        check(server.client(), self.expected)
        writers = Writers(server, name=point)
        try:
            writers.wait(5)
            with pytest.raises(NotRunning):
                copy_to(server, self.target, switch=True)
            assert server.wait() == -9, "".join(server.output[-20:])
        finally:
            written = writers.stop()
        assert len(written) >= 5
        assert writers.codes <= {"SlowDown"}
        self.expected |= written

    def _fill(self) -> None:
        client = self.server.client()
        client.create_bucket(Bucket=BUCKET)
        for number in range(40):
            body = self.expected[f"first/{number}"] = bytes([number]) * (number * 300)
            client.put_object(Bucket=BUCKET, Key=f"first/{number}", Body=body)

    def kill(self) -> None:
        self.server.kill()
        self.after.kill()


@pytest.fixture
def killed(tmp_path: Path, url: str) -> Iterator[Killed]:
    made = Killed(tmp_path, url)
    try:
        yield made
    finally:
        made.kill()


@pytest.mark.timeout(600)
def test_a_server_killed_before_and_after_its_catalog_is_retired(killed: Killed) -> None:
    killed.move_and_die("copy-settled")
    assert marks(killed.place) == (None, None)
    with pytest.raises(ServerFailed, match="nobody switched to"):
        killed.after.start()
    killed.move_and_die("copy-retired")
    moved, _ = marks(killed.place)
    assert moved is not None
    assert "secret-of-the-tests" not in moved.target
    _, copy = marks(killed.target)
    assert copy is not None
    assert copy.sequence, "the source says where it went, so this is whole"
    reopened = killed.after.command("catalog", "reopen")
    assert reopened.returncode == 0, reopened.stderr
    killed.after.start()
    client = killed.after.client()
    check(client, killed.expected)
    admin = AdminClient(killed.after.data)
    admin.call("POST", "/catalog/accept")
    for worker in ("settling", "reclaim", "collection", "collection"):
        admin.call("POST", f"/workers/{worker}/run")
    check(client, killed.expected)
    client.put_object(Bucket=BUCKET, Key="later", Body=b"later")
