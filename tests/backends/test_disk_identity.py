"""A folder that isn't the node's own is refused, at open and while running, and never taken for an empty one."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.conformance import BytesSource, StalledSource
from backends.disk import DiskBackend, NodeMarker, initialise, read_marker
from backends.errors import NotFound, PermanentError, WrongIdentity
from core.buffers import Buffer
from core.ids import new_id, new_piece_name

KEY = b"a key of the deployment"
MARKER = NodeMarker(node_id=b"n" * 16, deployment_id=b"d" * 16)


def make(path: Path, marker: NodeMarker = MARKER, key: bytes = KEY) -> DiskBackend:
    return DiskBackend(path, marker=marker, key=key, floor=0)


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[DiskBackend]:
    initialise(tmp_path / "node", MARKER, KEY)
    backend = make(tmp_path / "node")
    await backend.open()
    yield backend
    await backend.close()


async def refuses_everything(disk: DiskBackend, locator: bytes) -> None:
    """Every operation says WrongIdentity; none says NotFound, none writes."""
    await asyncio.sleep(0.11)  # reads trust a proof of identity for a tenth of a second
    for call in (
        disk.put(new_piece_name(1), BytesSource(b"lost")),
        disk.get(locator, 0, 1),
        disk.get(new_piece_name(1).encode(), 0, 1),
        disk.delete(locator),
        disk.stat(locator),
        anext(disk.list()),
        disk.capacity(),
        disk.open(),
    ):
        with pytest.raises(WrongIdentity):
            await call


def test_marker_round_trip(tmp_path: Path) -> None:
    initialise(tmp_path / "a" / "b", MARKER, KEY)
    assert read_marker(tmp_path / "a" / "b", KEY) == MARKER


def test_initialise_again_is_harmless(tmp_path: Path) -> None:
    initialise(tmp_path, MARKER, KEY)
    (tmp_path / "pieces" / "ab").mkdir()
    initialise(tmp_path, MARKER, KEY)
    assert (tmp_path / "pieces" / "ab").is_dir()


def test_initialise_goes_on_after_a_crash(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "pieces").mkdir()
    (tmp_path / ".node.marker.new").write_bytes(b"half")
    initialise(tmp_path, MARKER, KEY)
    assert read_marker(tmp_path, KEY) == MARKER


def test_initialise_takes_nothing_over(tmp_path: Path) -> None:
    initialise(tmp_path / "other", NodeMarker(new_id(), MARKER.deployment_id), KEY)
    with pytest.raises(WrongIdentity, match="another node"):
        initialise(tmp_path / "other", MARKER, KEY)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.doc").write_text("precious")
    with pytest.raises(WrongIdentity, match="not empty"):
        initialise(tmp_path / "used", MARKER, KEY)


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "other key"])
def test_a_forged_or_damaged_marker_is_refused(tmp_path: Path, damage: str) -> None:
    initialise(tmp_path, MARKER, KEY)
    file = tmp_path / "node.marker"
    content = file.read_bytes()
    if damage == "flip":
        position = content.index(b'"node"') + 10
        file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
    elif damage == "truncate":
        file.write_bytes(content[:-10])
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        file.write_bytes(MARKER.seal(b"another deployment's key"))
    with pytest.raises(WrongIdentity, match="damaged or was signed by another"):
        read_marker(tmp_path, KEY)


def test_a_future_marker_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.disk.marker._FORMAT", 2)
    initialise(tmp_path, MARKER, KEY)
    monkeypatch.undo()
    with pytest.raises(WrongIdentity, match="format 2"):
        read_marker(tmp_path, KEY)


async def test_missing_folder_is_refused_and_not_created(tmp_path: Path) -> None:
    backend = make(tmp_path / "node")
    with pytest.raises(WrongIdentity, match="not mounted"):
        await backend.open()
    assert not (tmp_path / "node").exists()
    await backend.close()


async def test_empty_mount_point_is_refused_and_stays_empty(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    backend = make(tmp_path / "node")
    with pytest.raises(WrongIdentity):
        await backend.open()
    assert list((tmp_path / "node").iterdir()) == []
    await backend.close()


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (NodeMarker(b"x" * 16, MARKER.deployment_id), "is node"),
        (NodeMarker(MARKER.node_id, b"x" * 16), "another deployment"),
    ],
)
async def test_another_nodes_folder_is_refused(tmp_path: Path, marker: NodeMarker, message: str) -> None:
    initialise(tmp_path, marker, KEY)
    backend = make(tmp_path)
    with pytest.raises(WrongIdentity, match=message):
        await backend.open()
    await backend.close()


async def test_a_second_user_of_the_folder_is_refused(disk: DiskBackend, tmp_path: Path) -> None:
    second = make(tmp_path / "node")
    with pytest.raises(PermanentError, match="in use"):
        await second.open()
    await disk.close()
    await second.open()
    await second.close()


async def test_deleted_folder_is_noticed(disk: DiskBackend, tmp_path: Path) -> None:
    locator = await disk.put(new_piece_name(1), BytesSource(b"piece"))
    await disk.get(locator, 0, 5)
    shutil.rmtree(tmp_path / "node")
    await refuses_everything(disk, locator)
    assert not (tmp_path / "node").exists()


async def test_moved_folder_is_noticed_and_taken_back(disk: DiskBackend, tmp_path: Path) -> None:
    locator = await disk.put(new_piece_name(1), BytesSource(b"piece"))
    (tmp_path / "node").rename(tmp_path / "away")
    await refuses_everything(disk, locator)
    (tmp_path / "away").rename(tmp_path / "node")
    await disk.open()
    assert bytes(await disk.get(locator, 0, 5)) == b"piece"


async def test_swapped_folder_is_noticed(disk: DiskBackend, tmp_path: Path) -> None:
    locator = await disk.put(new_piece_name(1), BytesSource(b"piece"))
    (tmp_path / "node").rename(tmp_path / "away")
    initialise(tmp_path / "node", NodeMarker(new_id(), MARKER.deployment_id), KEY)
    await refuses_everything(disk, locator)
    assert list((tmp_path / "node" / "pieces").iterdir()) == []


async def test_restored_copy_is_adopted_by_open(disk: DiskBackend, tmp_path: Path) -> None:
    locator = await disk.put(new_piece_name(1), BytesSource(b"piece"))
    shutil.copytree(tmp_path / "node", tmp_path / "copy")
    shutil.rmtree(tmp_path / "node")
    with pytest.raises(WrongIdentity):
        await disk.stat(locator)
    (tmp_path / "copy").rename(tmp_path / "node")
    with pytest.raises(WrongIdentity, match="replaced"):
        await disk.stat(locator)
    await disk.open()
    assert bytes(await disk.get(locator, 0, 5)) == b"piece"
    again = await disk.put(new_piece_name(1), BytesSource(b"new piece"))
    assert (await disk.stat(again)).size == 9
    assert again.decode() in [file.name for file in (tmp_path / "node").rglob("*")]


async def test_folder_swapped_during_a_put_is_not_acknowledged(disk: DiskBackend, tmp_path: Path) -> None:
    source = StalledSource(b"the folder goes while this is written")
    put = asyncio.ensure_future(disk.put(new_piece_name(1), source))
    await source.stalled.wait()
    (tmp_path / "node").rename(tmp_path / "away")
    source.release.set()
    with pytest.raises(WrongIdentity):
        await put


async def test_the_sources_error_comes_out_even_if_the_folder_has_gone(disk: DiskBackend, tmp_path: Path) -> None:
    class Deleting(BytesSource):
        async def __aiter__(self) -> AsyncIterator[Buffer]:
            for _ in range(4):
                yield bytes(1_500_000)
                await asyncio.sleep(0.01)
            shutil.rmtree(tmp_path / "node")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await disk.put(new_piece_name(1), Deleting())


async def test_a_lost_piece_is_not_found_where_the_place_is_there(disk: DiskBackend, tmp_path: Path) -> None:
    locator = await disk.put(new_piece_name(1), BytesSource(b"piece"))
    shutil.rmtree(tmp_path / "node" / "pieces")
    with pytest.raises(NotFound):
        await disk.get(locator, 0, 1)
    with pytest.raises(PermanentError):
        await disk.put(new_piece_name(1), BytesSource(b"no place to go"))
