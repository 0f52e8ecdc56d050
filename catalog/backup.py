"""Backups: one snapshot of every row, in a form that any engine can read, checked from end to end.

The stream is a header, blocks and a trailer (docs/formats/catalog.md). Every block carries the BLAKE3 hash of itself
chained to all before it, so a block that is damaged, missing, repeated or moved is noticed at that block, and a
stream without its trailer is known to be cut short. Change feed rows are left out: a restored catalog's feed begins
at the backup's sequence.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
from blake3 import blake3

from catalog.errors import BackupDamaged, FutureVersion
from catalog.hold import put_hold
from catalog.interface import Catalog, Row
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.prefixes import FEED
from core.clock import Clock, SystemClock
from core.errors import StartRefused

#: Told the rows and bytes done so far.
Progress = Callable[[int, int], None]

MAGIC: Final = b"ATOLL-CATALOG\n"
FORMAT: Final = 1

_HEAD: Final = struct.Struct(">BI")  # kind, payload length
_HASH: Final = 32
_MAX_PAYLOAD: Final = 1 << 30
_HEADER, _ROWS, _TRAILER = 1, 2, 3
_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class BackupSummary:
    """What a backup holds: rows and the stream's length in bytes. It shows every commit up to `sequence` and none
    after `ceiling`, where a restored catalog goes on."""

    rows: int
    bytes: int
    sequence: int
    ceiling: int
    time_us: int


class _Header(msgspec.Struct, frozen=True):
    """The first block. Later versions may add members."""

    format: int
    sequence: int
    ceiling: int
    time_us: int


class _Writer:
    """Appends blocks to a stream. Blocking; runs in a worker thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._chain = b""
        self.bytes = len(MAGIC)
        stream.write(MAGIC)

    def block(self, kind: int, content: Any) -> None:
        payload = msgspec.msgpack.encode(content)
        head = _HEAD.pack(kind, len(payload))
        self._chain = blake3(self._chain + head + payload).digest()
        for part in (head, payload, self._chain):
            self._stream.write(part)
        self.bytes += len(head) + len(payload) + _HASH


class _Reader:
    """Takes blocks off a stream and checks them. Blocking."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._chain = b""
        self.bytes = len(MAGIC)
        if stream.read(len(MAGIC)) != MAGIC:
            raise BackupDamaged("this is not a catalog backup")

    def block(self) -> tuple[int, Any]:
        head = self._take(_HEAD.size)
        kind, length = _HEAD.unpack(head)
        if length > _MAX_PAYLOAD:
            raise BackupDamaged(f"the backup is damaged at byte {self.bytes}")
        payload = self._take(length)
        digest = self._take(_HASH)
        self._chain = blake3(self._chain + head + payload).digest()
        if digest != self._chain:
            raise BackupDamaged(f"the backup is damaged at byte {self.bytes}")
        self.bytes += _HEAD.size + length + _HASH
        try:
            return kind, msgspec.msgpack.decode(payload)
        except msgspec.DecodeError:
            raise BackupDamaged(f"the backup is damaged at byte {self.bytes}") from None

    def at_end(self) -> bool:
        return not self._stream.read(1)

    def _take(self, length: int) -> bytes:
        data = self._stream.read(length)
        if len(data) != length:
            raise BackupDamaged(f"the backup is cut short at byte {self.bytes + len(data)}")
        return data


async def backup(
    catalog: Catalog, target: Path | str | BinaryIO, progress: Progress | None = None, *, clock: Clock | None = None
) -> BackupSummary:
    """Write a consistent backup of a catalog in use. A path appears only when complete and durable, and must not
    exist before (FileExistsError); a stream is written to and left open."""
    now = (clock or SystemClock()).now_us()
    if not isinstance(target, (str, Path)):
        return await _dump(catalog, target, progress, now)
    path = Path(target)
    if await asyncio.to_thread(path.exists):
        raise FileExistsError(f"{path} exists")
    partial = path.with_name(path.name + ".partial")
    stream = await asyncio.to_thread(_create, partial)
    try:
        try:
            summary = await _dump(catalog, stream, progress, now)
            await asyncio.to_thread(_sync, stream)
        finally:
            stream.close()
        await asyncio.to_thread(publish, partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return summary


async def _dump(catalog: Catalog, stream: BinaryIO, progress: Progress | None, now: int) -> BackupSummary:
    sequence = await catalog.sequence()
    ceiling: int | None = None
    writer = await asyncio.to_thread(_Writer, stream)
    count = 0
    pending: list[Row] = []
    size = 0
    async with aclosing(catalog.export()) as runs:
        async for rows in runs:
            if ceiling is None:
                # The snapshot is taken by now, so nothing in it is newer than this.
                ceiling = await catalog.sequence()
                await asyncio.to_thread(writer.block, _HEADER, _Header(FORMAT, sequence, ceiling, now))
            kept = [row for row in rows if not row[0].startswith(FEED)]
            count += len(kept)
            pending += kept
            size += sum(len(key) + len(value) for key, value in kept)
            if size >= _BLOCK_BYTES:
                await asyncio.to_thread(writer.block, _ROWS, pending)
                pending, size = [], 0
            if progress is not None:
                progress(count, writer.bytes)
    if ceiling is None:
        ceiling = sequence
        await asyncio.to_thread(writer.block, _HEADER, _Header(FORMAT, sequence, ceiling, now))
    if pending:
        await asyncio.to_thread(writer.block, _ROWS, pending)
    await asyncio.to_thread(writer.block, _TRAILER, {"rows": count})
    if progress is not None:
        progress(count, writer.bytes)
    return BackupSummary(count, writer.bytes, sequence, ceiling, now)


async def restore(source: Path | str | BinaryIO, folder: Path | str, progress: Progress | None = None) -> BackupSummary:
    """Make an LMDB catalog in `folder`, absent or empty before, of a backup.

    The folder appears only when all of the backup was read and found whole. The catalog is held (see hold.py): on it
    no piece is deleted before an operator accepts the restore. Raises BackupDamaged, FutureVersion, or
    StartRefused for a folder that is not empty.
    """
    target = Path(folder)
    await asyncio.to_thread(require_vacant, target)
    partial = target.with_name(target.name + ".restoring")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        catalog = await LmdbCatalog.open(partial)
        try:
            summary = await load(source, catalog, progress)
            await put_hold(catalog, summary.time_us, summary.ceiling)
        finally:
            await catalog.close()
        await asyncio.to_thread(publish, partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return summary


async def load(source: Path | str | BinaryIO, catalog: Catalog, progress: Progress | None = None) -> BackupSummary:
    """Write a backup's rows into an empty catalog of any engine that nobody uses yet. When it raises BackupDamaged,
    rows before the damage are there: drop that catalog."""
    return await _over(source, catalog, progress)


async def verify_backup(source: Path | str | BinaryIO, progress: Progress | None = None) -> BackupSummary:
    """Read a backup from end to end. Raises BackupDamaged or FutureVersion."""
    return await _over(source, None, progress)


async def _over(source: Path | str | BinaryIO, catalog: Catalog | None, progress: Progress | None) -> BackupSummary:
    if isinstance(source, (str, Path)):
        stream: BinaryIO = await asyncio.to_thread(open, source, "rb")
        try:
            return await _over(stream, catalog, progress)
        finally:
            stream.close()
    blocks = _blocks(source)
    summary: BackupSummary | None = None
    while (item := await asyncio.to_thread(next, blocks, None)) is not None:
        rows, summary = item
        if rows and catalog is not None:
            await catalog.load(rows, sequence=summary.ceiling)
        if progress is not None:
            progress(summary.rows, summary.bytes)
    assert summary is not None
    return summary


def _blocks(stream: BinaryIO) -> Iterator[tuple[list[Row], BackupSummary]]:
    """The rows of each block, with the summary up to there. Ends only behind a whole and sound backup."""
    reader = _Reader(stream)
    kind, header = reader.block()
    if kind != _HEADER or not isinstance(header, dict) or not isinstance(header.get("format"), int):
        raise BackupDamaged("the backup has no header")
    version = header["format"]
    if version > FORMAT:
        raise FutureVersion(f"the backup has format {version}, this program reads up to {FORMAT}: use a newer one")
    try:
        facts = msgspec.convert(header, _Header)
    except msgspec.ValidationError:
        raise BackupDamaged("the backup has a malformed header") from None
    count = 0
    while True:
        kind, content = reader.block()
        if kind == _ROWS:
            rows = [(key, value) for key, value in content]
            count += len(rows)
            yield rows, BackupSummary(count, reader.bytes, facts.sequence, facts.ceiling, facts.time_us)
        elif kind == _TRAILER and content.get("rows") == count and reader.at_end():
            yield [], BackupSummary(count, reader.bytes, facts.sequence, facts.ceiling, facts.time_us)
            return
        else:
            raise BackupDamaged(f"the backup is damaged at byte {reader.bytes}")


def require_vacant(target: Path) -> None:
    """Raise StartRefused unless a catalog may be restored into `target`: it is absent, or an empty folder."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StartRefused(f"{target} is not empty; restore into a new folder")


def _create(path: Path) -> BinaryIO:
    """A new file that only its owner reads: a backup holds what small objects hold."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb", _BLOCK_BYTES)


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def publish(partial: Path, path: Path) -> None:
    """Give the complete file or folder its name, durably."""
    partial.replace(path)
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
