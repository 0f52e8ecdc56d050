"""Reads of what is in memory: at once, or soon in another thread; never wrong, never waiting."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backends.conformance import BytesSource
from backends.decorators.meter import MeterBackend
from backends.disk import DiskBackend, NodeMarker, initialise
from core.ids import new_piece_name

KEY = b"a key of the deployment"
MARKER = NodeMarker(node_id=b"n" * 16, deployment_id=b"d" * 16)
CONTENT = bytes(range(256)) * 40


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[MeterBackend]:
    initialise(tmp_path, MARKER, KEY)
    backend = MeterBackend(DiskBackend(tmp_path, marker=MARKER, key=KEY, floor=0))
    await backend.open()
    yield backend
    await backend.close()


async def piece(disk: MeterBackend) -> bytes:
    """A piece that was read once, so that it is open."""
    locator = await disk.put(new_piece_name(1), BytesSource(CONTENT))
    await disk.get(locator, 0, 1)
    return locator


@pytest.mark.parametrize("kind", ["now", "soon"])
async def test_ranges(disk: MeterBackend, kind: str) -> None:
    locator = await piece(disk)
    with ThreadPoolExecutor(1) as pool:
        for offset, length in ((0, len(CONTENT)), (17, 300), (len(CONTENT) - 1, 1), (5, 0)):
            if kind == "now":
                found = disk.get_now(locator, offset, length)
            else:
                read = disk.get_soon(locator, offset, length)
                assert read is not None
                found = pool.submit(read).result()
            assert found is not None
            assert bytes(found) == CONTENT[offset : offset + length]


async def test_what_is_not_to_be_had(disk: MeterBackend, tmp_path: Path) -> None:
    locator = await piece(disk)
    for offset, length in ((0, len(CONTENT) + 1), (len(CONTENT), 1), (-1, 1)):
        assert disk.get_now(locator, offset, length) is None
        assert disk.get_soon(locator, offset, length) is None
    unopened = await disk.put(new_piece_name(1), BytesSource(CONTENT))
    assert disk.get_soon(unopened, 0, 1) is None
    await disk.delete(locator)
    assert disk.get_soon(locator, 0, 1) is None


async def test_cut_short_between_asking_and_reading(disk: MeterBackend, tmp_path: Path) -> None:
    locator = await piece(disk)
    read = disk.get_soon(locator, 0, len(CONTENT))
    assert read is not None
    (path,) = (tmp_path / "pieces").rglob(locator.decode())
    os.truncate(path, 100)
    assert read() is None


async def test_deleted_between_asking_and_reading(disk: MeterBackend) -> None:
    """The file stays open for who was promised its bytes."""
    locator = await piece(disk)
    read = disk.get_soon(locator, 0, len(CONTENT))
    await disk.delete(locator)
    assert read is not None
    found = read()
    assert found is not None
    assert bytes(found) == CONTENT
