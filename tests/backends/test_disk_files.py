"""What lies on the disk, and what doesn't: names, leftovers, open files, cancelled and interrupted writes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.conformance import BytesSource, StalledSource
from backends.disk import DiskBackend, NodeMarker, initialise
from backends.disk.place import Place
from backends.disk.system import read_all, rename_new, write_all
from backends.errors import AlreadyExists, NotFound, PermanentError
from core.ids import new_piece_name

KEY = b"a key of the deployment"
MARKER = NodeMarker(node_id=b"n" * 16, deployment_id=b"d" * 16)


def make(path: Path, open_files: int = 64) -> DiskBackend:
    initialise(path, MARKER, KEY)
    return DiskBackend(path, marker=MARKER, key=KEY, floor=0, open_files=open_files)


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[DiskBackend]:
    backend = make(tmp_path)
    await backend.open()
    yield backend
    await backend.close()


def files(folder: Path) -> dict[str, int]:
    return {str(file.relative_to(folder)): file.stat().st_size for file in folder.rglob("*") if file.is_file()}


async def test_a_piece_is_one_file_in_its_fan_out_folder(disk: DiskBackend, tmp_path: Path) -> None:
    name = new_piece_name(3)
    await disk.put(name, BytesSource(b"bare", b" bytes"))
    assert (tmp_path / "pieces" / name[17:19] / name).read_bytes() == b"bare bytes"
    assert files(tmp_path / "incoming") == {}


@pytest.mark.parametrize(
    "name",
    ["", ".", "../../etc/passwd", "0" * 16 + "-" + "../" * 10 + "aa", "0" * 16 + "-" + "A" * 32, "x" * 49, "0" * 49]
    + ["0" * 15 + "1-" + "ab" * 16 + tail for tail in ("0", "/", "\n", "\0", "é")],
)
async def test_names_never_become_other_paths(disk: DiskBackend, tmp_path: Path, name: str) -> None:
    before = files(tmp_path)
    for call in (
        disk.put(name, BytesSource(b"x")),
        disk.get(name.encode(), 0, 1),
        disk.delete(name.encode()),
        disk.stat(name.encode()),
    ):
        with pytest.raises(PermanentError, match="not a piece name"):
            await call
    assert files(tmp_path) == before


async def test_odd_prefixes_list_nothing(disk: DiskBackend) -> None:
    await disk.put(new_piece_name(1), BytesSource(b"x"))
    for prefix in ("..", "0" * 17 + "../../../..", "0" * 17 + "..", "é", "\0"):
        assert [entry async for entry in disk.list(prefix)] == []


async def test_strangers_in_the_folder_are_not_pieces(disk: DiskBackend, tmp_path: Path) -> None:
    name = new_piece_name(1)
    await disk.put(name, BytesSource(b"x"))
    (tmp_path / "pieces" / name[17:19] / "README").write_text("put here by somebody")
    assert [entry.name async for entry in disk.list()] == [name]


async def test_a_link_in_place_of_a_piece_is_not_followed(disk: DiskBackend, tmp_path: Path) -> None:
    name = new_piece_name(1)
    locator = await disk.put(name, BytesSource(b"x"))
    piece = tmp_path / "pieces" / name[17:19] / name
    piece.unlink()
    piece.symlink_to("/etc/passwd")
    with pytest.raises(PermanentError):
        await disk.get(locator, 0, 10)


async def test_cancelled_put_leaves_no_file(disk: DiskBackend, tmp_path: Path) -> None:
    before = files(tmp_path)
    for size in (10, 3_000_000):
        source = StalledSource(bytes(size), bytes(size))
        put = asyncio.ensure_future(disk.put(new_piece_name(1), source))
        await source.stalled.wait()
        put.cancel()
        await asyncio.gather(put, return_exceptions=True)
    await disk.close()  # waits for the clearing up
    assert files(tmp_path) == before


async def test_put_cancelled_while_it_is_synced_never_shows(
    disk: DiskBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread can't be stopped in the middle of its step, so the step's outcome has to be taken back."""
    for step in ("fdatasync", "fsync"):
        entered, go_on = threading.Event(), threading.Event()
        real = getattr(os, step)

        def stop(
            descriptor: int, real: object = real, go_on: threading.Event = go_on, entered: threading.Event = entered
        ) -> None:
            entered.set()
            assert go_on.wait(10)
            assert callable(real)
            real(descriptor)

        name = new_piece_name(1)
        monkeypatch.setattr(os, step, stop)
        put = asyncio.ensure_future(disk.put(name, BytesSource(b"x")))
        await asyncio.to_thread(entered.wait, 10)
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(put, 1)  # the cancelled caller does not wait for the disk
        go_on.set()
        with pytest.raises(NotFound):
            await disk.stat(name.encode())
        monkeypatch.undo()
        await disk.put(name, BytesSource(b"the name is free"))


async def test_leftovers_of_a_crash_go_at_open(tmp_path: Path) -> None:
    backend = make(tmp_path)
    (tmp_path / "incoming" / f"{new_piece_name(1)}.0").write_bytes(b"half a piece")
    await backend.open()
    assert files(tmp_path / "incoming") == {}
    await backend.close()


def test_rename_falls_back_to_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system refuses a rename that must not replace (as some network ones do)."""
    monkeypatch.setattr("backends.disk.system._RENAME_NOREPLACE", 1 << 30)  # a flag that no kernel knows: EINVAL
    (tmp_path / "a").write_bytes(b"new")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        rename_new(folder, "a", "b")
        assert {file.name for file in tmp_path.iterdir()} == {"b"}
        (tmp_path / "a").write_bytes(b"newer")
        with pytest.raises(FileExistsError):
            rename_new(folder, "a", "b")
    finally:
        os.close(folder)
    assert (tmp_path / "b").read_bytes() == b"new"


async def test_open_files_stay_bounded(tmp_path: Path) -> None:
    backend = make(tmp_path, open_files=5)
    await backend.open()
    locators = [await backend.put(new_piece_name(1), BytesSource(bytes([n]) * 100)) for n in range(30)]
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(2):
        found = await asyncio.gather(*(backend.get(locator, 0, 100) for locator in locators))
        assert [buffer[0] for buffer in found] == list(range(30))
    assert len(os.listdir("/proc/self/fd")) <= before + 5  # noqa: PTH208
    await backend.close()


async def test_cached_reads_use_no_thread(tmp_path: Path) -> None:
    """A thread pool that is stuck must not stop reads from the page cache."""
    initialise(tmp_path, MARKER, KEY)
    with ThreadPoolExecutor(1) as pool:
        disk = DiskBackend(tmp_path, marker=MARKER, key=KEY, floor=0, pool=pool)
        await disk.open()
        locator = await disk.put(new_piece_name(1), BytesSource(b"hot" * 10_000))
        await disk.get(locator, 0, 10)
        stuck = threading.Event()
        pool.submit(stuck.wait)
        try:
            assert bytes(await asyncio.wait_for(disk.get(locator, 3, 20_000), 1)) == (b"hot" * 10_000)[3:20_003]
        finally:
            stuck.set()
        await disk.close()


async def test_reads_go_to_a_thread_where_the_cache_cannot_answer(
    disk: DiskBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(200_000)
    locator = await disk.put(new_piece_name(1), BytesSource(content))
    await disk.get(locator, 0, 1)
    real = os.preadv
    answers: list[object] = [BlockingIOError(), 70_000, OSError(95, "not supported")]

    def preadv(descriptor: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        if not flags:
            return real(descriptor, buffers, offset)
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        assert isinstance(answer, int)
        return real(descriptor, [memoryview(buffers[0])[:answer]], offset)

    monkeypatch.setattr(os, "preadv", preadv)
    for _ in range(4):  # would block; a part; flag unknown; and then no more attempts
        assert bytes(await disk.get(locator, 10, 190_000)) == content[10:190_010]
    assert answers == []


async def test_truncated_and_replaced_files_are_read_as_they_are(disk: DiskBackend, tmp_path: Path) -> None:
    """Rot must reach the reader, who judges: neither an error nor an old open file may hide it for long."""
    name = new_piece_name(1)
    locator = await disk.put(name, BytesSource(b"0123456789"))
    assert bytes(await disk.get(locator, 0, 10)) == b"0123456789"
    piece = tmp_path / "pieces" / name[17:19] / name
    os.truncate(piece, 4)
    assert bytes(await disk.get(locator, 0, 10)) == b"0123"
    piece.unlink()
    piece.write_bytes(b"abcdefghij")
    await asyncio.sleep(1.05)
    assert bytes(await disk.get(locator, 0, 10)) == b"abcdefghij"
    piece.unlink()
    await asyncio.sleep(1.05)
    with pytest.raises(NotFound):
        await disk.get(locator, 0, 10)


def test_concurrent_folder_syncs_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    initialise(tmp_path, MARKER, KEY)
    place = Place.open(tmp_path, MARKER, KEY)
    place.ensure_folder("ab")
    first_runs, go_on = threading.Event(), threading.Event()
    real = os.fsync
    calls = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        first_runs.set()
        assert go_on.wait(10)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(place.sync_pieces, "ab")
        assert first_runs.wait(10)
        others = [pool.submit(place.sync_pieces, "ab") for _ in range(8)]
        deadline = time.monotonic() + 10
        while place._syncs["ab"]._asked < 9 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert not any(other.done() for other in others), "an fsync that began before can't serve who came after"
        go_on.set()
        for job in (first, *others):
            job.result(10)
    assert len(calls) == 2


CHILD = """
import asyncio, os, sys
from pathlib import Path
from backends.conformance import BytesSource
from backends.disk import DiskBackend, NodeMarker
from core.ids import new_piece_name

async def main():
    marker = NodeMarker(b"n" * 16, b"d" * 16)
    disk = DiskBackend(Path(sys.argv[1]), marker=marker, key=b"a key of the deployment", floor=0)
    await disk.open()
    async def writer(number):
        for turn in range(10_000):
            size = (100, 70_000, 2_500_000)[(number + turn) % 3]
            name = new_piece_name(1)
            content = bytes.fromhex(name[17:]) * (size // 16)
            await disk.put(name, BytesSource(content[: size // 2], content[size // 2 :]))
            os.write(1, name.encode() + b"\\n")
    await asyncio.gather(*(writer(number) for number in range(6)))

asyncio.run(main())
"""


def write_until_killed(folder: Path, lines: int) -> list[str]:
    """Run the child until it has told of `lines` durable pieces, kill it, and return all that it told of."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    told = [child.stdout.readline() for _ in range(lines)]
    child.kill()
    rest, _ = child.communicate()
    return [line.decode().strip() for line in told + rest.splitlines(keepends=True) if line.endswith(b"\n")]


async def test_killed_in_the_middle_of_puts(tmp_path: Path) -> None:
    backend = make(tmp_path)
    acknowledged: list[str] = []
    for turn in range(4):
        acknowledged += await asyncio.to_thread(write_until_killed, tmp_path, 10 + 17 * turn)
        await backend.open()
        assert files(tmp_path / "incoming") == {}
        listed = {entry.name: entry.size async for entry in backend.list()}
        assert set(acknowledged) <= set(listed)
        for name, size in listed.items():  # acknowledged or not: whole
            assert size in [wanted // 16 * 16 for wanted in (100, 70_000, 2_500_000)]
            assert bytes(await backend.get(name.encode(), 0, size)) == bytes.fromhex(name[17:]) * (size // 16)
        await backend.close()
    assert len(acknowledged) > 40


async def test_two_backends_race_for_one_name(disk: DiskBackend) -> None:
    """Through the file system's own rename, with long pieces, so that the race is at the end."""
    name = new_piece_name(1)
    contents = [bytes([number]) * 1_500_000 for number in range(4)]
    puts = (disk.put(name, BytesSource(content[:1_200_000], content[1_200_000:])) for content in contents)
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["AlreadyExists"] * 3 + ["bytes"]
    winner = next(number for number, result in enumerate(results) if isinstance(result, bytes))
    assert bytes(await disk.get(name.encode(), 0, 2_000_000)) == contents[winner]
    with pytest.raises(AlreadyExists):
        await disk.put(name, BytesSource(b"late"))


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(0, 700), st.integers(0, 700))
def test_vectors_are_written_and_ranges_read_whole(chunks: list[bytes], offset: int, length: int) -> None:
    content = b"".join(chunks)
    descriptor = os.memfd_create("vectors")
    try:
        assert write_all(descriptor, chunks) == len(content)
        buffer = bytearray(length)
        held = read_all(descriptor, buffer, offset)
        assert bytes(buffer[:held]) == content[offset : offset + length]
    finally:
        os.close(descriptor)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.data())
def test_partial_writes_are_continued(sizes: list[int], data: st.DataObject) -> None:
    """A kernel may take any part of a vector; what it took must not be written twice, nor a byte be skipped."""
    chunks = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    taken = bytearray()

    def writev(descriptor: int, buffers: list[bytes]) -> int:
        joined = b"".join(buffers)
        count = data.draw(st.integers(1, len(joined))) if joined else 0
        taken.extend(joined[:count])
        return count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "writev", writev)
        assert write_all(-1, chunks) == sum(sizes)
    assert bytes(taken) == b"".join(chunks)
