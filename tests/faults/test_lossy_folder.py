"""The layer that the durability tests stand on: what was synced stays, what was not goes."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.lossy.folder import LossyFolder
from tests.faults.lossy.tree import ROOT, SECTOR, LossyTree

FILE = 0o100600


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


@pytest.fixture
def lossy(tmp_path: Path) -> Iterator[LossyFolder]:
    with LossyFolder(tmp_path / "disk") as folder:
        folder.mount()
        yield folder


def after_cut(lossy: LossyFolder, *, keep: float = 0.0, torn: bool = False, seed: int = 0) -> None:
    lossy.cut_power(keep=keep, torn=torn, seed=seed)
    lossy.mount()


def test_what_was_never_synced_is_gone(lossy: LossyFolder) -> None:
    (lossy.path / "file").write_bytes(b"bytes")
    (lossy.path / "folder").mkdir()
    loss = lossy.cut_power()
    lossy.mount()
    assert list(lossy.path.iterdir()) == []
    assert (loss.lost_writes, loss.lost_names) == (1, 2)


def test_a_name_without_its_bytes(lossy: LossyFolder) -> None:
    (lossy.path / "file").write_bytes(b"bytes")
    sync(lossy.path)
    after_cut(lossy)
    assert (lossy.path / "file").read_bytes() == b""


def test_bytes_without_their_name(lossy: LossyFolder) -> None:
    (lossy.path / "file").write_bytes(b"bytes")
    sync(lossy.path / "file")
    after_cut(lossy)
    assert not (lossy.path / "file").exists()


@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_both_synced_stay_and_later_bytes_go(lossy: LossyFolder, call: str) -> None:
    with (lossy.path / "file").open("wb", buffering=0) as file:
        file.write(b"kept")
        getattr(os, call)(file.fileno())
        sync(lossy.path)
        file.write(b"lost")
        file.seek(0)
        file.write(b"L")
    after_cut(lossy)
    assert (lossy.path / "file").read_bytes() == b"kept"


def test_o_dsync_writes_stay(lossy: LossyFolder) -> None:
    descriptor = os.open(lossy.path / "file", os.O_WRONLY | os.O_CREAT | os.O_DSYNC)
    sync(lossy.path)
    os.pwrite(descriptor, b"sure", 0)
    os.close(descriptor)
    after_cut(lossy)
    assert (lossy.path / "file").read_bytes() == b"sure"


def test_unsynced_rename_and_unlink_come_undone(lossy: LossyFolder) -> None:
    for name in ("renamed", "unlinked", "synced"):
        (lossy.path / name).write_bytes(name.encode())
        sync(lossy.path / name)
    sync(lossy.path)
    (lossy.path / "synced").unlink()
    sync(lossy.path)
    (lossy.path / "renamed").rename(lossy.path / "elsewhere")
    (lossy.path / "unlinked").unlink()
    after_cut(lossy)
    assert {path.name: path.read_bytes() for path in lossy.path.iterdir()} == {
        "renamed": b"renamed",
        "unlinked": b"unlinked",
    }


def test_rename_between_folders_is_as_durable_as_the_target(lossy: LossyFolder) -> None:
    for name in ("a", "b"):
        (lossy.path / name).mkdir()
    sync(lossy.path)
    (lossy.path / "a" / "file").write_bytes(b"x")
    sync(lossy.path / "a" / "file")
    sync(lossy.path / "a")
    (lossy.path / "a" / "file").rename(lossy.path / "b" / "file")
    sync(lossy.path / "b")
    after_cut(lossy)
    assert (lossy.path / "b" / "file").read_bytes() == b"x"
    assert (lossy.path / "a" / "file").read_bytes() == b"x", "its removal from the other folder was not synced"


def test_a_folder_inside_a_lost_folder_is_lost(lossy: LossyFolder) -> None:
    (lossy.path / "a" / "b").mkdir(parents=True)
    sync(lossy.path / "a")
    after_cut(lossy)
    assert list(lossy.path.iterdir()) == []


def test_luck_keeps_some_and_repeats_by_seed(tmp_path: Path) -> None:
    def run(name: str, seed: int) -> set[str]:
        with LossyFolder(tmp_path / name) as lossy:
            lossy.mount()
            for number in range(40):
                (lossy.path / str(number)).write_bytes(b"x")
            after_cut(lossy, keep=0.5, seed=seed)
            return {path.name for path in lossy.path.iterdir()}

    first, same, other = run("a", 1), run("b", 1), run("c", 2)
    assert first == same != other
    assert 5 < len(first) < 35


def test_torn_writes_end_at_a_sector(lossy: LossyFolder) -> None:
    path = lossy.path / "file"
    path.write_bytes(b"")
    sync(lossy.path)
    sizes = set()
    for seed in range(20):
        with path.open("wb", buffering=0) as file:
            os.fsync(file.fileno())
            file.write(b"x" * 5000)
        after_cut(lossy, keep=1.0, torn=True, seed=seed)
        sizes.add(path.stat().st_size)
    assert 5000 in sizes
    assert len(sizes) > 3
    assert all(size == 5000 or size % SECTOR == 0 for size in sizes)


def test_open_descriptors_die_with_the_power(lossy: LossyFolder) -> None:
    descriptor = os.open(lossy.path / "file", os.O_WRONLY | os.O_CREAT)
    lossy.cut_power()
    for call in (lambda: os.write(descriptor, b"too late"), lambda: os.fsync(descriptor), lambda: os.close(descriptor)):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)


def test_orderly_unmount_keeps_everything(lossy: LossyFolder) -> None:
    (lossy.path / "file").write_bytes(b"never synced")
    lossy.unmount()
    assert list(lossy.path.iterdir()) == []
    lossy.mount()
    assert (lossy.path / "file").read_bytes() == b"never synced"


def test_power_goes_before_a_chosen_change(lossy: LossyFolder) -> None:
    lossy.unmount()
    for instant in range(4):
        lossy.mount(cut_after=instant)
        done = 0
        try:
            for number in range(10):
                (lossy.path / f"{instant}-{number}").mkdir()
                done += 1
        except OSError:
            pass
        assert done == instant
        assert lossy.cut_power().changes == instant


def test_ordinary_file_system_otherwise(lossy: LossyFolder) -> None:
    """Enough of POSIX that programs work: offsets, holes, truncation, links, listing, modes."""
    path = lossy.path / "file"
    with path.open("w+b") as file:
        file.seek(10_000)
        file.write(b"end")
        file.truncate(10_001)
    assert path.read_bytes() == bytes(10_000) + b"e"
    path.chmod(0o640)
    assert path.stat().st_mode & 0o777 == 0o640
    os.link(path, lossy.path / "second")
    assert path.stat().st_nlink == 2
    with pytest.raises(FileExistsError):
        os.link(path, lossy.path / "second")
    path.unlink()
    assert (lossy.path / "second").stat().st_nlink == 1
    (lossy.path / "folder").mkdir()
    for number in range(300):
        (lossy.path / "folder" / f"a rather long name {number:0100}").touch()
    assert len(list((lossy.path / "folder").iterdir())) == 300
    with pytest.raises(OSError, match="not empty"):
        (lossy.path / "folder").rmdir()
    (lossy.path / "replaced").write_bytes(b"old")
    (lossy.path / "second").rename(lossy.path / "replaced")
    assert (lossy.path / "replaced").stat().st_size == 10_001


operation = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 3), st.integers(0, 40), st.binary(min_size=1, max_size=20)),
    st.tuples(st.just("resize"), st.integers(0, 3), st.integers(0, 40), st.just(b"")),
    st.tuples(st.just("sync"), st.integers(0, 3), st.just(0), st.just(b"")),
)


@settings(max_examples=200)
@given(st.lists(operation, max_size=40), st.integers(0, 1000), st.sampled_from([0.0, 0.5, 1.0]))
def test_tree_keeps_exactly_the_synced_and_maybe_more(
    operations: list[tuple[str, int, int, bytes]], seed: int, keep: float
) -> None:
    tree = LossyTree()
    inodes = [tree.make(ROOT, str(number).encode(), FILE) for number in range(4)]
    tree.sync(ROOT)
    synced = [b""] * 4
    clean = [True] * 4
    for kind, number, offset, data in operations:
        inode = inodes[number]
        if kind == "write":
            tree.write(inode.number, offset, data)
            assert inode.data[offset : offset + len(data)] == data
        elif kind == "resize":
            tree.resize(inode.number, offset)
            assert len(inode.data) == offset
        else:
            tree.sync(inode.number)
            synced[number] = bytes(inode.data)
        clean[number] = kind == "sync"
    live = [bytes(inode.data) for inode in inodes]
    tree.cut(keep=keep, seed=seed)
    for inode, old, new, untouched in zip(inodes, synced, live, clean, strict=True):
        if keep == 0.0 or untouched:
            assert inode.data == old
        elif keep == 1.0:
            assert inode.data == new


@settings(max_examples=200)
@given(st.integers(0, 10**9))
def test_a_renamed_file_never_loses_both_names(seed: int) -> None:
    rng = random.Random(seed)
    tree = LossyTree()
    folders = [tree.make(ROOT, name, 0o40700).number for name in (b"a", b"b", b"c")]
    file = tree.make(folders[0], b"0", FILE)
    for number in (ROOT, *folders):
        tree.sync(number)
    at, name = folders[0], b"0"
    for step in range(6):
        target, new = rng.choice(folders), str(step + 1).encode()
        tree.rename(at, name, target, new)
        at, name = target, new
        if rng.random() < 0.3:
            tree.sync(rng.choice(folders))
    tree.cut(keep=0.5, seed=seed)
    assert tree.inodes[file.number].links >= 1
    assert any(path.count("/") for path in tree.paths())
