"""A new network namespace: a process there has no network but a loopback of its own."""

from __future__ import annotations

import fcntl
import socket
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

#: As root; else where users may have namespaces of their own.
_WAYS: Final = (("unshare", "--net"), ("unshare", "--user", "--map-root-user", "--net"))

_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1
_REQUEST: Final = struct.Struct("16sH14x")


def entering() -> Sequence[str] | None:
    """What to put before a command line to run it in a namespace of its own; None where that is not permitted."""
    for way in _WAYS:
        try:
            done = subprocess.run([*way, "true"], capture_output=True, check=False)
        except FileNotFoundError:
            return None
        if done.returncode == 0:
            return way
    return None


def bring_loopback_up() -> None:
    """Within a new namespace, whose loopback is down. Raises RuntimeError where packets could go elsewhere, OSError."""
    if routes := Path("/proc/self/net/route").read_text().splitlines()[1:]:
        raise RuntimeError(f"this is no new network namespace: it has {len(routes)} routes")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _REQUEST.pack(b"lo", 0))
        _, flags = _REQUEST.unpack(answer)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _REQUEST.pack(b"lo", flags | _IFF_UP))
