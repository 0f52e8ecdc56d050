"""System calls that `os` lacks, and what an errno means to a caller of a backend."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Sequence

from backends.errors import AlreadyExists, BackendError, NoSpace, NotFound, PermanentError, RetryLater
from core.buffers import Buffer

_libc = ctypes.CDLL(None, use_errno=True)
_RENAME_NOREPLACE = 1
_SYNC_FILE_RANGE_WRITE = 2
_GET_FLAGS, _SET_FLAGS, _TOP_FOLDER = 0x80086601, 0x40086602, 0x00020000  # linux/fs.h
_MAX_VECTORS = 512  # below every system's IOV_MAX

#: The file system or the kernel doesn't know the call or the flag.
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PASSING = {errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EBUSY, errno.ETIMEDOUT}


def translate(error: OSError, doing: str) -> BackendError:
    """The backend error that an operating system's error means; `doing` begins its text."""
    text = f"{doing}: {error.strerror or error}"
    if error.errno == errno.ENOENT:
        return NotFound(text)
    if error.errno == errno.EEXIST:
        return AlreadyExists(text)
    if error.errno in _FULL:
        return NoSpace(text)
    if error.errno in _PASSING:
        return RetryLater(text)
    return PermanentError(text)


def rename_new(folder: int, source: str, target: str) -> None:
    """Rename below the open `folder`; raises FileExistsError rather than replace `target`.

    Where the file system has no such rename, a hard link and an unlink do the same: the link fails if the name is
    taken, and a crash between the two leaves a second name in `incoming/`, which the next open removes.
    """
    if _libc.renameat2(folder, os.fsencode(source), folder, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return
    code = ctypes.get_errno()
    if code not in _UNSUPPORTED:
        raise OSError(code, os.strerror(code), target)
    os.link(source, target, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    os.unlink(source, dir_fd=folder)


def start_writeback(descriptor: int, offset: int, length: int) -> None:
    """Ask the kernel to begin writing a range now, so that the sync at the end finds little left. A hint: no errors."""
    _libc.sync_file_range(descriptor, ctypes.c_int64(offset), ctypes.c_int64(length), _SYNC_FILE_RANGE_WRITE)


def spread_subfolders(root: int, path: str) -> None:
    """Ask the file system to spread a folder's subfolders over the disk (`chattr +T`). A hint: no errors."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
        try:
            flags = struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, struct.pack("l", 0)))[0]
            if not flags & _TOP_FOLDER:
                fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("l", flags | _TOP_FOLDER))
        finally:
            close_quietly(descriptor)


def write_all(descriptor: int, buffers: Sequence[Buffer]) -> int:
    """Write every byte of `buffers` at the file's position; returns how many."""
    total = 0
    rest: list[Buffer] = list(buffers)
    while rest:
        written = os.writev(descriptor, rest[:_MAX_VECTORS])
        total += written
        done = 0
        for buffer in rest:
            size = memoryview(buffer).nbytes
            if size > written:
                break
            written -= size
            done += 1
        rest = rest[done:]
        if written:
            rest[0] = memoryview(rest[0]).cast("B")[written:]
    return total


def read_all(descriptor: int, buffer: bytearray, offset: int, start: int = 0) -> int:
    """Fill `buffer` from its byte `start` on with the file's bytes from `offset + start`; returns the bytes held."""
    view = memoryview(buffer)
    held = start
    while held < len(buffer):
        got = os.preadv(descriptor, [view[held:]], offset + held)
        if got == 0:
            break
        held += got
    return held


def close_quietly(descriptor: int) -> None:
    """Close what was only read, or is given up: whatever the device has to say of it, the descriptor is gone."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


def sync_folder(root: int, path: str) -> None:
    """fsync a folder, given by its path below the open folder `root`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        os.fsync(descriptor)
    finally:
        close_quietly(descriptor)


def list_folder(root: int, path: str) -> list[str]:
    """The names in a folder, given by its path below the open folder `root`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        with os.scandir(descriptor) as entries:
            return [entry.name for entry in entries]
    finally:
        close_quietly(descriptor)
