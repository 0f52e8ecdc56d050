"""The lossy file system itself: it keeps what was synced, and loses or tears what was not."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from tests.powerloss.lossyfs.disk import LossyDisk


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def write(path: Path, data: bytes, *, synced: bool = False) -> None:
    path.write_bytes(data)
    if synced:
        sync(path)


def cut(disk: LossyDisk, *, keep: float = 0, seed: int = 1) -> None:
    disk.cut()
    disk.restore(seed, keep=keep)


def test_what_was_synced_stays(disk: LossyDisk) -> None:
    data = os.urandom(3 << 20)
    write(disk.folder / "file", data, synced=True)
    sync(disk.folder)
    cut(disk)
    assert (disk.folder / "file").read_bytes() == data


def test_a_name_that_was_not_synced_is_lost_with_its_synced_bytes(disk: LossyDisk) -> None:
    write(disk.folder / "file", b"bytes", synced=True)
    cut(disk)
    assert not list(disk.folder.iterdir())
    assert disk.lost == 1


def test_bytes_that_were_not_synced_are_lost_though_the_name_stays(disk: LossyDisk) -> None:
    write(disk.folder / "file", b"bytes")
    sync(disk.folder)
    cut(disk)
    assert (disk.folder / "file").read_bytes() == b""


def test_a_folder_is_synced_in_its_parent(disk: LossyDisk) -> None:
    (disk.folder / "a").mkdir()
    write(disk.folder / "a" / "file", b"bytes", synced=True)
    sync(disk.folder / "a")
    cut(disk)
    assert not list(disk.folder.iterdir())


def test_a_rename_moves_or_does_not(disk: LossyDisk) -> None:
    (disk.folder / "in").mkdir()
    (disk.folder / "out").mkdir()
    sync(disk.folder)
    write(disk.folder / "in" / "one", b"one", synced=True)
    write(disk.folder / "in" / "two", b"two", synced=True)
    sync(disk.folder / "in")
    (disk.folder / "in" / "one").rename(disk.folder / "out" / "one")
    sync(disk.folder / "out")
    (disk.folder / "in" / "two").rename(disk.folder / "out" / "two")
    cut(disk)
    assert [path.name for path in (disk.folder / "in").iterdir()] == ["two"]
    assert [path.name for path in (disk.folder / "out").iterdir()] == ["one"]


def test_a_deletion_that_was_not_synced_is_undone(disk: LossyDisk) -> None:
    write(disk.folder / "file", b"bytes", synced=True)
    sync(disk.folder)
    (disk.folder / "file").unlink()
    assert not list(disk.folder.iterdir())
    cut(disk)
    assert (disk.folder / "file").read_bytes() == b"bytes"


def test_a_write_through_a_synchronous_descriptor_is_durable_alone(disk: LossyDisk) -> None:
    write(disk.folder / "file", bytes(8192), synced=True)
    sync(disk.folder)
    plain = os.open(disk.folder / "file", os.O_WRONLY)
    synchronous = os.open(disk.folder / "file", os.O_WRONLY | os.O_DSYNC)
    os.pwrite(plain, b"lost", 0)
    os.pwrite(synchronous, b"kept", 4096)
    os.close(plain)
    os.close(synchronous)
    before = disk.syncs
    cut(disk)
    data = (disk.folder / "file").read_bytes()
    assert data[4096:4100] == b"kept"
    # The kernel may follow a synchronous write with a sync of the whole file: then that was durable too.
    assert data[:4] == (b"\0\0\0\0" if disk.syncs == before + 2 else b"lost")


def test_writes_that_were_not_synced_may_be_torn(disk: LossyDisk) -> None:
    old, new = b"o" * 65536, b"n" * 65536
    seen = set()
    for seed in range(30):
        write(disk.folder / "file", old, synced=True)
        sync(disk.folder)
        descriptor = os.open(disk.folder / "file", os.O_WRONLY)
        os.pwrite(descriptor, new, 0)
        os.close(descriptor)
        cut(disk, keep=0.7, seed=seed)
        found = (disk.folder / "file").read_bytes()
        sectors = {found[place : place + 512] for place in range(0, len(found), 512)}
        assert sectors <= {old[:512], new[:512]}
        seen.add("old" if found == old else "new" if found == new else "torn")
    assert seen == {"old", "new", "torn"}


def test_memory_maps_see_writes(disk: LossyDisk) -> None:
    write(disk.folder / "file", bytes(8192))
    descriptor = os.open(disk.folder / "file", os.O_RDWR)
    with mmap.mmap(descriptor, 8192, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
        assert mapped[4096] == 0
        os.pwrite(descriptor, b"new", 4096)
        assert mapped[4096:4099] == b"new"
    os.close(descriptor)


def test_without_power_everything_fails(disk: LossyDisk) -> None:
    descriptor = os.open(disk.folder / "file", os.O_WRONLY | os.O_CREAT)
    disk.cut()
    with pytest.raises(OSError) as raised:
        os.write(descriptor, b"bytes")
    assert raised.value.errno == errno.EIO
    with pytest.raises(OSError):
        os.fsync(descriptor)
    os.close(descriptor)
