"""Where the admin socket is and how both ends reach it.

A socket's path may have 107 bytes at most, a data folder's more: both ends go through an open descriptor of the folder
(`/proc/self/fd/N/admin.sock`), whatever its length.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

NAME = "admin.sock"
_BACKLOG = 16


@contextlib.contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)


def listen(folder: Path) -> socket.socket:
    """A listening socket in `folder` that only its owner can use; one left by a dead process is replaced.

    The caller holds the folder's lock, so nobody else listens there. Raises OSError.
    """
    (folder / NAME).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # The name is born with the socket's own mode: a later chmod would leave a moment for others, and a umask would
        # hold for files that threads make meanwhile.
        os.fchmod(listener.fileno(), 0o600)
        with _short_path(folder) as path:
            listener.bind(path)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def connect(folder: Path, timeout: float) -> socket.socket:
    """A connection to the server of the data folder. Raises OSError when there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(timeout)
        with _short_path(folder) as path:
            connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection
