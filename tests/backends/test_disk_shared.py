"""Several processes over one node's folder: none takes away what another is about to write or has just made."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.conformance import BytesSource, StalledSource
from backends.disk import DiskBackend, NodeMarker, initialise
from backends.errors import PermanentError
from core.ids import new_piece_name

KEY = b"a key of the deployment"
MARKER = NodeMarker(node_id=b"n" * 16, deployment_id=b"d" * 16)
WRITER = """
import asyncio, sys
from backends.disk import DiskBackend, NodeMarker

class Endless:
    digest = b""
    async def __aiter__(self):
        for _ in range(4):
            yield b"x" * (1 << 19)
        print("writing", flush=True)
        await asyncio.sleep(60)

async def main():
    marker, key = NodeMarker(b"n" * 16, b"d" * 16), b"a key of the deployment"
    disk = DiskBackend(sys.argv[1], marker=marker, key=key, shared=True)
    await disk.open()
    await disk.put("0" * 16 + "-" + "0" * 32, Endless())

asyncio.run(main())
"""


def make(path: Path, *, shared: bool = True) -> DiskBackend:
    return DiskBackend(path, marker=MARKER, key=KEY, floor=0, shared=shared)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[DiskBackend, DiskBackend]]:
    initialise(tmp_path, MARKER, KEY)
    one, other = make(tmp_path), make(tmp_path)
    await one.open()
    await other.open()
    yield one, other
    await one.close()
    await other.close()


def waiting(folder: Path) -> list[Path]:
    return [path for path in (folder / "incoming").rglob("*") if path.is_file()]


async def test_both_see_each_others_pieces(pair: tuple[DiskBackend, DiskBackend]) -> None:
    one, other = pair
    locator = await one.put(new_piece_name(1), BytesSource(b"a piece"))
    assert bytes(await other.get(locator, 0, 10)) == b"a piece"
    await other.delete(locator)
    assert [entry async for entry in one.list()] == []


async def test_sharing_takes_two(tmp_path: Path) -> None:
    """A process that wants the folder for itself does not get it from those that share it, nor they from it."""
    initialise(tmp_path, MARKER, KEY)
    shared, alone = make(tmp_path), make(tmp_path, shared=False)
    await shared.open()
    with pytest.raises(PermanentError, match="another process"):
        await alone.open()
    await shared.close()
    await alone.open()
    with pytest.raises(PermanentError, match="another process"):
        await shared.open()
    await alone.close()


async def test_opening_leaves_what_another_is_writing(pair: tuple[DiskBackend, DiskBackend], tmp_path: Path) -> None:
    one, _ = pair
    data = os.urandom(1 << 20)
    source = StalledSource(data[: 1 << 19], data[1 << 19 :], b"")  # the next one makes it write what it has
    put = asyncio.create_task(one.put(new_piece_name(1), source))
    await source.stalled.wait()
    async with asyncio.timeout(10):
        while not waiting(tmp_path):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    third = make(tmp_path)
    await third.open()
    source.release.set()
    locator = await put
    assert bytes(await third.get(locator, 0, len(data))) == data
    await third.close()


async def test_what_a_dead_process_left_is_cleared(pair: tuple[DiskBackend, DiskBackend], tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, tmp_path, stdout=subprocess.PIPE)
    third = make(tmp_path)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"writing\n"
        await third.open()
        assert waiting(tmp_path), "cleared while its writer lives"
        await third.close()
    finally:
        process.kill()
        await process.wait()
    await third.open()
    assert waiting(tmp_path) == []
    await third.close()


async def test_a_folder_that_others_know_stays(pair: tuple[DiskBackend, DiskBackend], tmp_path: Path) -> None:
    """What one process knows to be durable another must not make anew."""
    one, other = pair
    name = new_piece_name(1)
    folder = tmp_path / "pieces" / name[17:19]
    await one.put(name, BytesSource(b"x"))
    inode = folder.stat().st_ino
    await other.delete(name.encode())
    assert folder.stat().st_ino == inode
