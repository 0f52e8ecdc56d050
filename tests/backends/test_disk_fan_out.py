"""Fan-out folders go with their last piece, beside puts into them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.conformance import BytesSource
from backends.disk import DiskBackend, NodeMarker, initialise
from backends.disk.incoming import Incoming
from backends.disk.place import Place
from core.ids import new_piece_name

KEY = b"a key of the deployment"
MARKER = NodeMarker(node_id=b"n" * 16, deployment_id=b"d" * 16)


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[DiskBackend]:
    initialise(tmp_path, MARKER, KEY)
    backend = DiskBackend(tmp_path, marker=MARKER, key=KEY, floor=0)
    await backend.open()
    yield backend
    await backend.close()


async def test_a_fan_out_folder_goes_with_its_last_piece_and_comes_back(disk: DiskBackend, tmp_path: Path) -> None:
    first, second = (new_piece_name(1)[:17] + "ab" + new_piece_name(1)[19:] for _ in range(2))
    folder = tmp_path / "pieces" / "ab"
    for _ in range(2):
        await disk.put(first, BytesSource(b"first"))
        await disk.put(second, BytesSource(b"second"))
        await disk.delete(first.encode())
        assert [path.name for path in folder.iterdir()] == [second]
        await disk.delete(second.encode())
        assert not folder.exists()
        await disk.delete(second.encode())


async def test_puts_beside_deletions_that_empty_their_folder(disk: DiskBackend, tmp_path: Path) -> None:
    """All in one fan-out folder, which comes and goes all the time."""
    kept: list[str] = []

    async def work(number: int) -> None:
        for turn in range(40):
            name = f"{number:016x}-ab{turn:030x}"
            await disk.put(name, BytesSource(b"bytes"))
            assert bytes(await disk.get(name.encode(), 0, 10)) == b"bytes"
            await disk.delete(name.encode())
        await disk.put(name, BytesSource(b"kept"))
        kept.append(name)

    await asyncio.gather(*(work(number) for number in range(4)))
    assert sorted(path.name for path in (tmp_path / "pieces" / "ab").iterdir()) == sorted(kept)
    await asyncio.gather(*(disk.delete(name.encode()) for name in kept))
    assert list((tmp_path / "pieces").iterdir()) == []
    assert not [path for path in (tmp_path / "incoming").rglob("*") if path.is_file()]


async def test_a_folder_that_goes_just_before_a_piece_comes(
    disk: DiskBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure = Place.ensure_folder

    def ensure_then_empty(self: Place, folder: str) -> None:
        ensure(self, folder)
        with self.removing(folder):  # a deletion of the last piece ends here
            pass
        assert not (tmp_path / "pieces" / folder).exists()

    monkeypatch.setattr(Place, "ensure_folder", ensure_then_empty)
    name = new_piece_name(1)
    await disk.put(name, BytesSource(b"bytes"))
    assert (tmp_path / "pieces" / name[17:19] / name).read_bytes() == b"bytes"


async def test_a_piece_that_is_deleted_with_its_folder_before_its_name_is_synced(
    disk: DiskBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However odd that is: the folder's absence is no failed fsync, after which a node takes no more writes."""
    opened = Incoming.open_folder

    def delete_then_open(self: Incoming) -> int:
        with self.place.removing(self.folder):
            os.unlink(f"pieces/{self.folder}/{name}", dir_fd=self.place.root)
        return opened(self)

    monkeypatch.setattr(Incoming, "open_folder", delete_then_open)
    name = new_piece_name(1)
    stored = disk.put_whole(name, [b"bytes"], bytes(32))
    assert stored is not None
    await stored
    monkeypatch.undo()
    await disk.put(name, BytesSource(b"again"))
    assert bytes(await disk.get(name.encode(), 0, 10)) == b"again"
