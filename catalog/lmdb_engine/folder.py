"""The catalog's folder: who has it open."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from catalog.errors import Locked

LOCK_NAME: Final = "catalog.lock"
DATA_NAME: Final = "data.mdb"
READERS_NAME: Final = "lock.mdb"
_READERS_BYTES: Final = 8192  # 126 readers of 64 bytes, and a head


class FolderLock:
    """An exclusive lock on a folder, held until `release` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        """Raises Locked when another process (or another catalog of this one) holds it."""
        self._fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise Locked(f"the catalog in {folder} is open in another process; stop that one first") from None

    def release(self) -> None:
        os.close(self._fd)


def reserve_reader_table(folder: Path) -> None:
    """Have disk space for LMDB's table of readers before it is mapped: touching a mapped page that a full disk can't
    provide ends the process with SIGBUS. Raises OSError."""
    fd = os.open(folder / READERS_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, _READERS_BYTES)
    finally:
        os.close(fd)


def nobody_maps(folder: Path) -> bool:
    """Whether no process at all, also none that was stopped or left behind, has LMDB's environment in `folder` open.
    This one must have closed it: any lock that it holds on the table of readers ends here."""
    fd = os.open(folder / READERS_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # LMDB's own sign: everyone who has the environment open holds this byte's lock.
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
    except (BlockingIOError, PermissionError):
        return False
    finally:
        os.close(fd)
    return True


def holds_catalog(folder: Path) -> bool:
    """Whether there is anything in `folder` that opening would not begin anew."""
    try:
        return (folder / DATA_NAME).stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
