"""Many fsyncs side by side, asked for by one thread.

A sync waits for the journal and for the disk's cache: those that are under way together share both, those that follow
each other pay for each. The kernel's asynchronous I/O (io_submit) takes fsyncs and runs them side by side in its own
threads. Where it is missing, one follows the other.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import threading
from collections.abc import Sequence
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

#: Numbers of io_setup, io_destroy, io_submit and io_getevents.
_CALLS: Final = {"x86_64": (206, 207, 209, 208), "aarch64": (0, 1, 2, 4)}.get(platform.machine())
_DEPTH: Final = 64  # syncs under way at once
_FSYNC, _FDSYNC = 2, 3  # IOCB_CMD_* of linux/aio_abi.h
_REQUEST = struct.Struct("=QIIHhI40x")  # struct iocb: data, key, flags, operation, priority, descriptor
_EVENT = struct.Struct("=QQqq")  # struct io_event: data, request, result, second result


class _Context:
    """One thread's queue in the kernel."""

    def __init__(self) -> None:
        self._syscall = _libc.syscall
        self._handle = ctypes.c_ulong(0)
        numbers = _CALLS or (-1, -1, -1, -1)  # no call has this one: it fails
        setup, self._destroy, self._submit, self._get_events = map(ctypes.c_long, numbers)
        self.usable = self._made = self._syscall(setup, ctypes.c_long(_DEPTH), ctypes.byref(self._handle)) == 0

    def __del__(self) -> None:
        if self._made:
            self._syscall(self._destroy, self._handle)

    def run(self, descriptors: Sequence[int], operation: int) -> dict[int, int]:
        """Sync up to `_DEPTH` descriptors; returns 0 or the errno of those that the kernel took, by position.

        Raises OSError when the outcome can't be told; then it is usable no more.
        """
        count = len(descriptors)
        requests = ctypes.create_string_buffer(
            b"".join([_REQUEST.pack(n, 0, 0, operation, 0, fd) for n, fd in enumerate(descriptors)])
        )
        first = ctypes.addressof(requests)
        pointers = (ctypes.c_void_p * count)(*[first + n * _REQUEST.size for n in range(count)])
        taken = max(0, self._syscall(self._submit, self._handle, ctypes.c_long(count), pointers))
        events = ctypes.create_string_buffer(_EVENT.size * count)
        results: dict[int, int] = {}
        while len(results) < taken:
            due = ctypes.c_long(taken - len(results))
            got = self._syscall(self._get_events, self._handle, due, due, events, None)
            if got < 0 and ctypes.get_errno() != errno.EINTR:
                self.usable = False  # what is still to come would be taken for the outcome of others
                raise OSError(ctypes.get_errno(), "the outcome of an fsync can't be told")
            for position, _, result, _ in _EVENT.iter_unpack(events.raw[: max(0, got) * _EVENT.size]):
                results[position] = -result
        return results


class _Contexts(threading.local):
    context: _Context | None = None


_contexts = _Contexts()


def sync_all(descriptors: Sequence[int], *, data_only: bool) -> list[OSError | None]:
    """fsync each descriptor of a file or folder (fdatasync if `data_only`), all at once; the error of each, or None.

    Blocks until all have ended.
    """
    context = _contexts.context
    if context is None:
        context = _contexts.context = _Context()
    errors: list[OSError | None] = []
    for start in range(0, len(descriptors), _DEPTH):
        group = descriptors[start : start + _DEPTH]
        results: dict[int, int] = {}
        if context.usable and len(group) > 1:
            try:
                results = context.run(group, _FDSYNC if data_only else _FSYNC)
            except OSError as error:
                errors.extend([error] * len(group))
                continue
        for position, descriptor in enumerate(group):
            code = results.get(position)
            if code is None:
                errors.append(_sync(descriptor, data_only=data_only))
            else:
                errors.append(OSError(code, os.strerror(code)) if code else None)
    return errors


def _sync(descriptor: int, *, data_only: bool) -> OSError | None:
    try:
        if data_only:
            os.fdatasync(descriptor)
        else:
            os.fsync(descriptor)
    except OSError as error:
        return error
    return None
