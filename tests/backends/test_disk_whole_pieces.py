"""Whole pieces on disks that share threads: one job, one outcome for each, nothing left of what was given up."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from backends.conformance import BackendConformance, BytesSource
from backends.decorators import MeterBackend
from backends.disk import DiskBackend, NodeMarker, initialise, syncs, temporary, together
from backends.errors import AlreadyExists, PermanentError, WrongIdentity
from backends.interface import Backend
from backends.memory import MemoryBackend
from core.ids import new_piece_name
from tests.backends.whole_pieces import AsWholePieces

KEY = b"a key of the deployment"


class CountingPool(ThreadPoolExecutor):
    jobs = 0

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.jobs += 1
        return super().submit(function, *args, **kwargs)


class Disks:
    """Six nodes in folders beside each other, their threads shared."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pool = CountingPool(4)
        self.nodes: list[DiskBackend] = []

    async def open(self) -> None:
        for number in range(6):
            marker = NodeMarker(node_id=bytes([number]) * 16, deployment_id=b"d" * 16)
            initialise(self.folder / str(number), marker, KEY)
            self.nodes.append(DiskBackend(self.folder / str(number), marker=marker, key=KEY, pool=self.pool, floor=0))
            await self.nodes[-1].open()

    def put(self, name: str, content: bytes = b"a whole piece") -> list[asyncio.Future[bytes]]:
        """The same piece to all of them in one turn."""
        puts = [node.put_whole(name, [content[:5], content[5:]], bytes(32)) for node in self.nodes]
        return [put for put in puts if put is not None]

    def files(self) -> list[str]:
        """Pieces and temporary files."""
        return sorted(
            str(path.relative_to(self.folder))
            for kind in ("pieces", "incoming")
            for path in self.folder.glob(f"*/{kind}/**/*")
            if path.is_file()
        )


@pytest.fixture
async def disks(tmp_path: Path) -> AsyncIterator[Disks]:
    made = Disks(tmp_path)
    await made.open()
    yield made
    for node in made.nodes:
        await node.close()
    made.pool.shutdown()


class TestWholePieces(BackendConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "node"

    async def make_backend(self) -> Backend:
        marker = NodeMarker(node_id=bytes(16), deployment_id=bytes(16))
        initialise(self.folder, marker, KEY)
        return AsWholePieces(DiskBackend(self.folder, marker=marker, key=KEY, floor=0))


async def test_pieces_of_one_turn_go_in_one_job(disks: Disks) -> None:
    before = disks.pool.jobs
    name = new_piece_name(1)
    locators = await asyncio.gather(*disks.put(name))
    assert disks.pool.jobs - before == 1
    assert locators == [name.encode()] * 6
    for node, locator in zip(disks.nodes, locators, strict=True):
        assert bytes(await node.get(locator, 0, 100)) == b"a whole piece"
    assert disks.files() == [f"{number}/pieces/{name[17:19]}/{name}" for number in range(6)]


@pytest.fixture
def other_device(tmp_path: Path) -> Iterator[int]:
    """The folder of the third node is a file system of its own, with this device number."""
    folder = tmp_path / "2"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    yield folder.stat().st_dev
    subprocess.run(["umount", "--lazy", folder], check=False)


async def test_a_device_that_hangs_holds_up_no_other(
    other_device: int, disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def hanging(descriptors: Sequence[int], *, data_only: bool) -> list[OSError | None]:
        if other_device in [os.fstat(descriptor).st_dev for descriptor in descriptors]:
            go.wait(20)
        return syncs.sync_all(descriptors, data_only=data_only)

    monkeypatch.setattr(together, "sync_all", hanging)
    puts = disks.put(new_piece_name(1))
    try:
        async with asyncio.timeout(15):
            await asyncio.gather(*puts[:2], *puts[3:])
        assert not puts[2].done()
    finally:
        go.set()
    await puts[2]


async def test_several_pieces_for_one_node_go_together(disks: Disks) -> None:
    names = [new_piece_name(1) for _ in range(100)]  # more than syncs are under way at once
    puts = [disks.nodes[0].put_whole(name, [name.encode()], bytes(32)) for name in names]
    await asyncio.gather(*[put for put in puts if put is not None])
    assert {entry.name async for entry in disks.nodes[0].list()} == set(names)
    assert bytes(await disks.nodes[0].get(names[70].encode(), 0, 49)) == names[70].encode()


async def test_what_is_not_taken_whole(disks: Disks) -> None:
    node = disks.nodes[0]
    assert node.put_whole(new_piece_name(1), [bytes((512 << 10) + 1)], bytes(32)) is None
    assert node.put_whole("../elsewhere", [b"x"], bytes(32)) is None
    await node.close()
    assert node.put_whole(new_piece_name(1), [b"x"], bytes(32)) is None


async def test_each_piece_has_its_own_outcome(disks: Disks) -> None:
    name = new_piece_name(1)
    await disks.nodes[2].put(name, BytesSource(b"the first of this name"))
    moved = disks.folder / "away"
    (disks.folder / "4").rename(moved)
    outcomes = await asyncio.gather(*disks.put(name), return_exceptions=True)
    kinds = [bytes if isinstance(outcome, bytes) else type(outcome) for outcome in outcomes]
    assert kinds == [bytes, bytes, AlreadyExists, bytes, WrongIdentity, bytes]
    assert bytes(await disks.nodes[2].get(name.encode(), 0, 100)) == b"the first of this name"
    assert not [path for path in (moved / "incoming").rglob("*") if path.is_file()]
    assert not [path for path in disks.folder.glob("*/incoming/**/*") if path.is_file()]


@pytest.mark.parametrize("data_only", [True, False], ids=["file", "folder"])
async def test_a_failed_sync_ends_writing_to_its_node_alone(
    disks: Disks, monkeypatch: pytest.MonkeyPatch, data_only: bool
) -> None:
    await asyncio.gather(*disks.put(first := new_piece_name(1)))
    sound = syncs.sync_all

    def failing(descriptors: Sequence[int], *, data_only: bool) -> list[OSError | None]:
        errors = sound(descriptors, data_only=data_only)
        if data_only is wrong:
            errors[3] = OSError(errno.EIO, os.strerror(errno.EIO))
        return errors

    wrong = data_only
    name = f"{1:016x}-{first[17:19]}{'5' * 30}"  # to a folder that is there already
    with monkeypatch.context() as patch:
        patch.setattr(together, "sync_all", failing)
        outcomes = await asyncio.gather(*disks.put(name), return_exceptions=True)
    assert [isinstance(outcome, PermanentError) for outcome in outcomes] == [number == 3 for number in range(6)]
    assert disks.nodes[3].put_whole(new_piece_name(1), [b"x"], bytes(32)) is None
    with pytest.raises(PermanentError, match="fsync"):
        await disks.nodes[3].put(new_piece_name(1), BytesSource(b"x"))
    assert (await disks.nodes[3].capacity()).free == 0
    await asyncio.gather(*disks.put(new_piece_name(1)))  # which is five


async def test_a_failed_sync_of_a_new_folder_is_told(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(descriptors: Sequence[int], *, data_only: bool) -> list[OSError | None]:
        return [None if data_only else OSError(errno.EIO, "I/O error")] * len(descriptors)

    monkeypatch.setattr(together, "sync_all", failing)
    for outcome in await asyncio.gather(*disks.put(new_piece_name(1)), return_exceptions=True):
        assert isinstance(outcome, PermanentError)
        assert "folder" in str(outcome)


async def test_cancelled_before_the_job_begins(disks: Disks) -> None:
    name = new_piece_name(1)
    puts = disks.put(name)
    puts[1].cancel()
    await asyncio.gather(*puts, return_exceptions=True)
    assert [entry async for entry in disks.nodes[1].list()] == []
    assert not [path for path in disks.files() if path.startswith("1/")]
    assert len(disks.files()) == 5


@pytest.mark.parametrize("data_only", [True, False], ids=["before its name", "after its name"])
async def test_cancelled_while_the_job_hangs(disks: Disks, monkeypatch: pytest.MonkeyPatch, data_only: bool) -> None:
    await asyncio.gather(*disks.put(first := new_piece_name(1)))
    sound, reached, go = syncs.sync_all, threading.Event(), threading.Event()

    def hanging(descriptors: Sequence[int], *, data_only: bool) -> list[OSError | None]:
        if data_only is where:
            reached.set()
            go.wait(20)
        return sound(descriptors, data_only=data_only)

    where = data_only
    name = f"{1:016x}-{first[17:19]}{'5' * 30}"
    monkeypatch.setattr(together, "sync_all", hanging)
    puts = disks.put(name)
    await asyncio.to_thread(reached.wait, 20)
    for put in puts[:2]:
        put.cancel()
    await asyncio.sleep(0)
    go.set()
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    assert [isinstance(outcome, bytes) for outcome in outcomes] == [False, False, True, True, True, True]
    for number, node in enumerate(disks.nodes):
        assert [entry.name async for entry in node.list()].count(name) == (number > 1)
    assert not [path for path in disks.files() if "incoming" in path]


async def test_close_waits_for_pieces_under_way(disks: Disks) -> None:
    puts = disks.put(new_piece_name(1))
    await asyncio.sleep(0)
    await asyncio.gather(*(node.close() for node in disks.nodes))
    assert len(disks.files()) == 6
    assert len(await asyncio.gather(*puts)) == 6


async def test_a_pool_that_was_shut_down(disks: Disks) -> None:
    disks.pool.shutdown()
    puts = disks.put(new_piece_name(1))
    for node in disks.nodes:
        node._place = None  # nothing can be undone any more
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {PermanentError}


async def test_whole_pieces_are_metered(disks: Disks) -> None:
    meter = MeterBackend(disks.nodes[0])
    name = new_piece_name(1)
    for expected in (None, AlreadyExists):
        put = meter.put_whole(name, [b"12345", b"678"], bytes(32))
        assert put is not None
        assert meter.snapshot()["put"].under_way == 1
        (outcome,) = await asyncio.gather(put, return_exceptions=True)
        assert isinstance(outcome, expected or bytes)
    figures = meter.snapshot()["put"]
    assert (figures.calls, figures.under_way, figures.bytes) == (2, 0, 16)
    assert figures.errors == {"AlreadyExists": 1}
    assert MeterBackend(MemoryBackend()).put_whole(name, [b"x"], bytes(32)) is None


@pytest.mark.parametrize("kernel", [True, False], ids=["side by side", "one after the other"])
def test_each_descriptor_has_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: bool) -> None:
    if not kernel:
        monkeypatch.setattr(syncs, "_CALLS", None)
        monkeypatch.setattr(syncs, "_contexts", syncs._Contexts())
    (tmp_path / "file").write_bytes(b"x")
    for data_only in (True, False):
        descriptors = [os.open(tmp_path / "file", os.O_RDWR), os.open(tmp_path, os.O_RDONLY)] * 50
        pipe = os.pipe()
        descriptors[7], descriptors[90] = 1_000_000, pipe[0]  # no descriptor, and one that can't be synced
        errors = syncs.sync_all(descriptors, data_only=data_only)
        assert [error.errno if error else 0 for error in errors] == [
            {7: errno.EBADF, 90: errno.EINVAL}.get(position, 0) for position in range(100)
        ]
        for descriptor in {*descriptors, *pipe} - {1_000_000}:
            os.close(descriptor)
    assert (syncs._contexts.context is not None and syncs._contexts.context.usable) is kernel


def test_an_outcome_that_cannot_be_told_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncs, "_contexts", syncs._Contexts())
    syncs._contexts.context = syncs._Context()
    assert syncs._contexts.context.usable
    syncs._contexts.context._get_events = ctypes.c_long(-1)  # no such call
    folders = [os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)]
    assert all(isinstance(error, OSError) for error in syncs.sync_all(folders, data_only=False))
    assert syncs.sync_all(folders, data_only=False) == [None, None]  # another way
    for folder in folders:
        os.close(folder)


async def test_temporary_files_move_on_to_fresh_folders(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "_TEMPORARIES", 3)
    incoming = disks.folder / "0" / "incoming"
    (first,) = incoming.iterdir()
    for _ in range(10):
        await disks.nodes[0].put(new_piece_name(1), BytesSource(b"x"))
        assert len(list(incoming.iterdir())) <= 3
    assert not first.exists()
    (next(incoming.iterdir()) / "leftover").write_bytes(b"of a crash")
    await disks.nodes[0].close()
    await disks.nodes[0].open()
    (fresh,) = incoming.iterdir()
    assert list(fresh.iterdir()) == []
