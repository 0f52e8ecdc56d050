"""Full, read-only and failing disks: a clear error, reads go on, nothing half written shows."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from backends.conformance import BytesSource
from backends.disk import DiskBackend, NodeMarker, initialise
from backends.errors import NoSpace, PermanentError, RetryLater, WrongIdentity
from core.ids import new_piece_name

KEY = b"a key of the deployment"
MARKER = NodeMarker(node_id=b"n" * 16, deployment_id=b"d" * 16)
MIB = 1 << 20


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=False)


def temporaries(folder: Path) -> list[Path]:
    return [path for path in (folder / "incoming").rglob("*") if path.is_file()]


async def opened(folder: Path, floor: int = 0) -> DiskBackend:
    initialise(folder, MARKER, KEY)
    disk = DiskBackend(folder, marker=MARKER, key=KEY, floor=floor)
    await disk.open()
    return disk


@pytest.fixture
async def small(mounted: Path) -> AsyncIterator[DiskBackend]:
    disk = await opened(mounted)
    yield disk
    await disk.close()


async def test_full_disk(small: DiskBackend, mounted: Path) -> None:
    kept = await small.put(new_piece_name(1), BytesSource(bytes(2 * MIB)))
    for chunks in ([bytes(3 * MIB)], [bytes(MIB)] * 4):
        with pytest.raises(NoSpace):
            await small.put(new_piece_name(1), BytesSource(*chunks))
    assert temporaries(mounted) == []
    assert bytes(await small.get(kept, 0, 2 * MIB)) == bytes(2 * MIB)
    await small.delete(kept)
    async with asyncio.timeout(10):  # the thread that read the piece may hold it open a moment longer
        while os.statvfs(mounted).f_bavail * os.statvfs(mounted).f_frsize < 3 * MIB:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await small.put(new_piece_name(1), BytesSource(bytes(3 * MIB)))


async def test_disk_filled_by_others(small: DiskBackend, mounted: Path) -> None:
    """The reservation goes by a look that is up to a second old; the file system itself says no as well."""
    await small.capacity()
    (mounted / "somebody's").write_bytes(bytes(4 * MIB - 200_000))
    with pytest.raises(NoSpace):
        await small.put(new_piece_name(1), BytesSource(bytes(MIB)))
    assert temporaries(mounted) == []
    (mounted / "somebody's").unlink()


async def test_floor_stays_free(mounted: Path) -> None:
    disk = await opened(mounted, floor=3 * MIB)
    assert (await disk.capacity()).free <= MIB
    await disk.put(new_piece_name(1), BytesSource(bytes(MIB // 2)))
    with pytest.raises(NoSpace, match="floor"):
        await disk.put(new_piece_name(1), BytesSource(bytes(MIB)))
    await disk.close()


async def test_capacity_is_the_file_systems(small: DiskBackend) -> None:
    capacity = await small.capacity()
    assert capacity.total == 4 * MIB
    await small.put(new_piece_name(1), BytesSource(bytes(MIB)))
    after = await small.capacity()
    assert after.used - capacity.used >= MIB
    assert capacity.free - after.free >= MIB


async def test_read_only_disk(small: DiskBackend, mounted: Path) -> None:
    locator = await small.put(new_piece_name(1), BytesSource(b"still readable"))
    (mounted / "incoming" / "leftover").write_bytes(b"can't be removed")
    run("mount", "-o", "remount,ro", mounted)
    with pytest.raises(PermanentError, match=r"[Rr]ead-only"):
        await small.put(new_piece_name(1), BytesSource(b"x"))
    with pytest.raises(PermanentError, match=r"[Rr]ead-only"):
        await small.delete(locator)
    assert bytes(await small.get(locator, 0, 20)) == b"still readable"
    await small.close()
    await small.open()
    assert bytes(await small.get(locator, 0, 20)) == b"still readable"
    assert (await small.capacity()).free == 0
    with pytest.raises(PermanentError, match=r"[Rr]ead-only"):
        await small.put(new_piece_name(1), BytesSource(b"x"))
    run("mount", "-o", "remount,rw", mounted)


async def test_unmounted_and_mounted_again(mounted: Path) -> None:
    disk = await opened(mounted)
    locator = await disk.put(new_piece_name(1), BytesSource(b"x"))
    beside = mounted.with_name("beside")
    beside.mkdir()
    run("mount", "--bind", mounted, beside)
    try:
        run("umount", "--lazy", mounted)
        with pytest.raises(WrongIdentity, match="vanished"):
            await disk.put(new_piece_name(1), BytesSource(b"x"))
        with pytest.raises(WrongIdentity):
            await disk.open()
        assert not any(os.scandir(mounted)), "nothing may be written to the mount point below"
        run("mount", "--bind", beside, mounted)
        await disk.open()
        assert bytes(await disk.get(locator, 0, 1)) == b"x"
    finally:
        run("umount", "--lazy", beside)
    await disk.close()


@pytest.mark.parametrize("step", ["fdatasync", "fsync"])
async def test_a_failed_fsync_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Linux reports a lost page once: a second fsync would succeed over the hole."""
    disk = await opened(tmp_path)
    kept = await disk.put(new_piece_name(1), BytesSource(b"kept"))
    syncs = []

    def fail(descriptor: int) -> None:
        syncs.append(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    name = "0" * 16 + "-" + kept.decode()[17:19] + "0" * 30  # the same folder, so that none has to be made
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(PermanentError, match="fsync"):
        await disk.put(name, BytesSource(b"lost"))
    monkeypatch.undo()
    assert len(syncs) == 1
    for call in (disk.put(new_piece_name(1), BytesSource(b"x")), disk.delete(kept), disk.open()):
        with pytest.raises(PermanentError, match="reopened"):
            await call
    assert bytes(await disk.get(kept, 0, 4)) == b"kept"
    assert (await disk.capacity()).free == 0
    assert [entry.name async for entry in disk.list()] == [kept.decode()]
    await disk.close()
    await disk.open()
    await disk.put(name, BytesSource(b"works again"))
    await disk.close()


async def test_failed_sync_of_a_deletion_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = await opened(tmp_path)
    locator = await disk.put(new_piece_name(1), BytesSource(b"x"))

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(PermanentError, match="fsync"):
        await disk.delete(locator)
    with pytest.raises(PermanentError, match="reopened"):
        await disk.put(new_piece_name(1), BytesSource(b"x"))
    monkeypatch.undo()
    await disk.close()


@pytest.mark.parametrize(
    ("code", "expected"),
    [(errno.EIO, PermanentError), (errno.EMFILE, RetryLater), (errno.EDQUOT, NoSpace), (errno.ENOMEM, RetryLater)],
)
async def test_errors_mean_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: type[Exception]
) -> None:
    disk = await opened(tmp_path)

    def fail(descriptor: int, buffers: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "writev", fail)
    with pytest.raises(expected) as caught:
        await disk.put(new_piece_name(1), BytesSource(b"x"))
    assert type(caught.value) is expected
    monkeypatch.undo()
    await disk.put(new_piece_name(1), BytesSource(b"only a failed fsync is final"))
    await disk.close()


async def test_not_open_is_a_permanent_error(tmp_path: Path) -> None:
    disk = await opened(tmp_path)
    await disk.close()
    await disk.close()
    for call in (disk.put(new_piece_name(1), BytesSource(b"x")), disk.get(new_piece_name(1).encode(), 0, 1)):
        with pytest.raises(PermanentError, match="not open"):
            await call


async def test_close_ends_its_threads(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    disk = await opened(tmp_path)
    await disk.put(new_piece_name(1), BytesSource(b"x"))
    own = set(threading.enumerate()) - before
    assert own
    await disk.close()
    for thread in own:
        thread.join(5)
        assert not thread.is_alive()
