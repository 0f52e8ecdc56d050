"""Mounting and unmounting a FUSE file system, as root or through `fusermount3`."""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import subprocess
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH = 2


def mount(folder: Path) -> int:
    """The descriptor that requests are read from. Raises OSError."""
    if os.geteuid() != 0:
        return _mount_unprivileged(folder)
    descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={descriptor},rootmode={stat.S_IFDIR:o},user_id=0,group_id=0,allow_other,default_permissions"
    if _libc.mount(b"lossyfs", os.fsencode(folder), b"fuse.lossyfs", 0, options.encode()) != 0:
        code = ctypes.get_errno()
        os.close(descriptor)
        raise OSError(code, f"mounting {folder}: {os.strerror(code)}")
    return descriptor


def _mount_unprivileged(folder: Path) -> int:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        subprocess.run(
            ["fusermount3", "-o", "fsname=lossyfs,default_permissions", "--", str(folder)],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=(theirs.fileno(),),
            check=True,
        )
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        return descriptors[0]


def unmount(folder: Path) -> None:
    """Detach at once, whoever still uses it."""
    if os.geteuid() != 0:
        subprocess.run(["fusermount3", "-u", "-z", "--", str(folder)], check=False)
        return
    _libc.umount2(os.fsencode(folder), _MNT_DETACH)
