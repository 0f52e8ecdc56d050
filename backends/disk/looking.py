"""Looking at the pieces of an open folder: what worker threads do for reads, stats and listings."""

from __future__ import annotations

import errno
import os
import re
import time

from backends.disk.descriptors import PieceFile
from backends.disk.incoming import path_of
from backends.disk.marker import PIECES
from backends.disk.place import Place
from backends.disk.system import close_quietly, list_folder, read_all, translate
from backends.errors import NotFound, Unreadable
from backends.interface import Entry
from core.buffers import Buffer, unset

#: What a file of a piece is called.
NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{32}")


def leads_to(place: Place, locator: bytes, file: PieceFile) -> bool:
    """Whether the piece's name still leads to the open file. One stat of a name that the kernel has in memory."""
    try:
        return os.stat(path_of(locator.decode("ascii")), dir_fd=place.root).st_ino == file.inode
    except OSError:
        return False


def read_on(place: Place, file: PieceFile, buffer: bytearray, offset: int, held: int) -> Buffer:
    try:
        held = read_all(file.descriptor, buffer, offset, held)
    except OSError as error:
        if error.errno == errno.EIO:
            raise Unreadable(f"a piece in {place.path} can't be read: {error.strerror}") from error
        raise translate(error, f"reading a piece from {place.path}") from error
    if held < len(buffer):  # truncated since it was opened
        del buffer[held:]
    return buffer


def open_and_read(place: Place, name: str, offset: int, length: int) -> tuple[PieceFile, Buffer]:
    try:
        descriptor = os.open(path_of(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=place.root)
    except OSError as error:
        raise _missing(place, name, error) from error
    file = PieceFile(descriptor, time.monotonic())
    buffer = unset(max(0, min(length, file.size - offset)))
    return file, read_on(place, file, buffer, offset, 0)


def size_of(place: Place, name: str) -> int:
    try:
        return os.stat(path_of(name), dir_fd=place.root, follow_symlinks=False).st_size
    except OSError as error:
        raise _missing(place, name, error) from error


def _missing(place: Place, name: str, error: OSError) -> Exception:
    """*Not found* is only said of a place that is proven to be there."""
    if isinstance(error, FileNotFoundError):
        place.check()
        return NotFound(f"no piece {name}")
    return translate(error, f"opening {name} in {place.path}")


def fan_out_folders(place: Place) -> list[str]:
    try:
        return sorted(list_folder(place.root, PIECES))
    except OSError as error:
        place.check()
        raise translate(error, f"listing {place.path}") from error


def scan(place: Place, folder: str, prefix: str) -> list[Entry]:
    found = []
    try:
        descriptor = os.open(f"{PIECES}/{folder}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place.root)
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if entry.name.startswith(prefix) and NAME.fullmatch(entry.name):
                        try:
                            found.append(Entry(entry.name, entry.stat(follow_symlinks=False).st_size))
                        except FileNotFoundError:
                            continue  # deleted meanwhile
        finally:
            close_quietly(descriptor)
    except FileNotFoundError:
        place.check()
    except OSError as error:
        raise translate(error, f"listing {place.path}") from error
    return found
