"""Online backup and restore."""

from __future__ import annotations

import asyncio
import io
import random
from pathlib import Path

import pytest

from catalog.backup import backup, load, restore, verify_backup
from catalog.errors import BackupDamaged, FeedTrimmed, FutureVersion
from catalog.feed import FeedConsumer
from catalog.interface import Row
from catalog.keys import u64
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.memory import MemoryCatalog
from catalog.prefixes import ENGINE
from core.errors import StartRefused
from tests.catalog.conformance import A, B, put, scan

ROWS: list[Row] = [(ENGINE + u64(i) + b"k" * (i % 5 * 300), random.Random(i).randbytes(i % 900)) for i in range(3000)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def filled() -> MemoryCatalog:
    catalog = MemoryCatalog()
    await put(catalog, *ROWS)
    return catalog


async def dumped() -> bytes:
    stream = io.BytesIO()
    await backup(await filled(), stream)
    return stream.getvalue()


async def test_back_and_forth(tmp_path: Path) -> None:
    source = await filled()
    seen: list[tuple[int, int]] = []
    made = await backup(source, tmp_path / "b.atoll", lambda rows, size: seen.append((rows, size)))
    assert made.rows == len(ROWS)
    assert made.bytes == (tmp_path / "b.atoll").stat().st_size
    assert seen == sorted(seen)
    assert seen[-1] == (made.rows, made.bytes)
    assert (tmp_path / "b.atoll").stat().st_mode & 0o777 == 0o600
    assert await verify_backup(tmp_path / "b.atoll") == made
    assert await restore(tmp_path / "b.atoll", tmp_path / "new") == made
    restored = await LmdbCatalog.open(tmp_path / "new")
    assert await scan(restored) == ROWS
    assert await restored.sequence() >= await source.sequence()
    await put(restored, (A, b"works"))
    await restored.close()
    assert names(tmp_path) == ["b.atoll", "new"]


async def test_a_backup_under_load_is_one_instant(tmp_path: Path) -> None:
    """Two rows far apart are always changed together."""
    catalog = await LmdbCatalog.open(tmp_path / "live")
    last = b"\x30z"
    await put(catalog, *ROWS, (A, b"0"), (last, b"0"))
    stop = False

    async def load_it() -> int:
        turn = 0
        while not stop:
            turn += 1
            await put(catalog, (A, b"%d" % turn), (last, b"%d" % turn), (B + u64(turn), b""))
        return turn

    task = asyncio.create_task(load_it())
    await backup(catalog, tmp_path / "b.atoll")
    stop = True
    assert await task > 1
    await catalog.close()
    await restore(tmp_path / "b.atoll", tmp_path / "copy")
    copy = await LmdbCatalog.open(tmp_path / "copy")
    rows = dict(await scan(copy, b"\x01", b"\xff"))
    assert rows[A] == rows[last]
    assert {key for key, _ in ROWS} <= rows.keys()
    await copy.close()


async def test_the_feed_goes_on_behind_a_restore(tmp_path: Path) -> None:
    """A registered consumer loses no change, and a position from before is told that it is too old."""
    source = MemoryCatalog()
    consumer = FeedConsumer(source, b"copy")
    await put(source, (A, b""))
    await consumer.register()
    position = await source.sequence()
    await consumer.advance(position)
    stream = io.BytesIO()
    await backup(source, stream)
    stream.seek(0)
    await restore(stream, tmp_path / "new")
    restored = await LmdbCatalog.open(tmp_path / "new")
    assert await FeedConsumer(restored, b"copy").register() == position
    with pytest.raises(FeedTrimmed):
        await restored.changes(position - 1)
    now = await restored.sequence()
    await put(restored, (B, b""))
    assert [list(change.keys) for change in await restored.changes(now)] == [[B]]
    await restored.close()


async def test_every_cut_is_noticed(tmp_path: Path) -> None:
    data = await dumped()
    for length in [0, 5, 14, 30, *range(100, len(data), len(data) // 40), len(data) - 1]:
        with pytest.raises(BackupDamaged):
            await verify_backup(io.BytesIO(data[:length]))
    with pytest.raises(BackupDamaged):
        await restore(io.BytesIO(data[:-1]), tmp_path / "new")
    assert names(tmp_path) == []


async def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    data = await dumped()
    rng = random.Random(4)
    for at in [0, 14, 15, 20, len(data) - 1, *(rng.randrange(len(data)) for _ in range(100))]:
        damaged = bytearray(data)
        damaged[at] ^= 1 << rng.randrange(8)
        with pytest.raises((BackupDamaged, FutureVersion)):
            await verify_backup(io.BytesIO(bytes(damaged)))


async def test_appended_and_repeated_blocks_are_noticed() -> None:
    data = await dumped()
    with pytest.raises(BackupDamaged):
        await verify_backup(io.BytesIO(data + b"\x00"))
    with pytest.raises(BackupDamaged):
        await verify_backup(io.BytesIO(data + data[14:]))


async def test_a_used_target_is_refused(tmp_path: Path) -> None:
    data = await dumped()
    (tmp_path / "file").write_text("")
    for target in (tmp_path, tmp_path / "file"):
        with pytest.raises(StartRefused, match="not empty"):
            await restore(io.BytesIO(data), target)
    (tmp_path / "empty").mkdir()
    await restore(io.BytesIO(data), tmp_path / "empty")
    with pytest.raises(StartRefused):
        await restore(io.BytesIO(data), tmp_path / "empty")
    (tmp_path / "b.atoll").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        await backup(await filled(), tmp_path / "b.atoll")
    assert (tmp_path / "b.atoll").read_bytes() == b"precious"


async def test_a_failed_backup_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(rows: int, size: int) -> None:
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        await backup(await filled(), tmp_path / "b.atoll", interrupt)
    assert names(tmp_path) == []


async def test_an_empty_catalog_and_any_engine() -> None:
    stream = io.BytesIO()
    assert (await backup(MemoryCatalog(), stream)).rows == 0
    stream.seek(0)
    target = MemoryCatalog()
    assert (await load(stream, target)).rows == 0
    target = MemoryCatalog()
    await load(io.BytesIO(await dumped()), target)
    assert await scan(target) == ROWS
