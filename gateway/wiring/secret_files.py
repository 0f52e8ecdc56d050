"""Files that hold secrets: 0600 from their first moment, whole and durable from when they have their name, never
replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from core.errors import StartRefused


def create_private_folder(folder: Path) -> None:
    """Make `folder` (and its parents) for its owner alone, unless it exists."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)


def write_secret(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read, and make it durable. Raises FileExistsError, OSError; then no
    part of it is there."""
    unnamed = path.with_name(path.name + ".unfinished")
    unnamed.unlink(missing_ok=True)  # of a process that died while it wrote
    descriptor = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(unnamed, path)
    finally:
        unnamed.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_secret(path: Path) -> bytes:
    """The content. Raises StartRefused when others could have read it or it can't be read, FileNotFoundError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StartRefused(f"cannot read {path}: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise StartRefused(f"{path} can be read by others; run: chmod 600 {path}")
        return os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)
