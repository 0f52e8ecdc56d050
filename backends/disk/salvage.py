"""A node's folder opened to read only, before anybody can tell whether its marker is genuine.

The key that verifies markers lies in the catalog. When that is lost, a restore reads snapshots from folders that it
cannot verify yet; what it reads proves itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from backends.disk.incoming import path_of
from backends.disk.looking import NAME
from backends.disk.marker import MARKER, PIECES, NodeMarker
from backends.disk.system import close_quietly, translate
from backends.errors import NotFound, PermanentError, WrongIdentity
from backends.interface import Entry
from core.buffers import Buffer

_MAX_MARKER = 4096


class SalvagedFolder:
    """`list` and `get` of a backend. `marker` is what the folder says of itself. Use `open`, then `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1
        self._marker: NodeMarker | None = None

    @property
    def marker(self) -> NodeMarker:
        """Not verified. Only after `open`."""
        if self._marker is None:
            raise PermanentError(f"{self.path} is not open")
        return self._marker

    async def open(self) -> None:
        """Raises WrongIdentity for a folder that is no node's, PermanentError where a server has it open."""
        await asyncio.to_thread(self._open)

    async def close(self) -> None:
        """Let servers have the folder."""
        if self._lock >= 0:
            close_quietly(self._lock)
            self._lock = -1

    async def list(self, prefix: str = "") -> AsyncIterator[Entry]:
        """As `Backend.list`. Raises what `open` raised where that failed."""
        if self._lock < 0:
            await self.open()
        for folder in await asyncio.to_thread(self._folders):
            for entry in await asyncio.to_thread(self._entries, folder, prefix):
                yield entry

    async def get(self, locator: bytes, offset: int, length: int) -> Buffer:
        """As `Backend.get`."""
        name = locator.decode("ascii", "replace")
        if not NAME.fullmatch(name):
            raise PermanentError(f"not a piece name: {name[:80]!r}")
        return await asyncio.to_thread(self._read, name, offset, length)

    def _open(self) -> None:
        try:
            descriptor = os.open(self.path / MARKER, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise WrongIdentity(f"{self.path} has no {MARKER}: not mounted, or no node's folder") from error
        except OSError as error:
            raise translate(error, f"opening {self.path}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fields = json.loads(os.pread(descriptor, _MAX_MARKER, 0).partition(b"\n")[0])
            self._marker = NodeMarker(bytes.fromhex(fields["node"]), bytes.fromhex(fields["deployment"]))
        except BlockingIOError as error:
            close_quietly(descriptor)
            raise PermanentError(f"{self.path} is in use by another process; stop it first") from error
        except (ValueError, KeyError, TypeError) as error:
            close_quietly(descriptor)
            raise WrongIdentity(f"{self.path} has a {MARKER} that is damaged") from error
        self._lock = descriptor

    def _folders(self) -> Sequence[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self.path / PIECES))
        except OSError as error:
            raise translate(error, f"listing {self.path}") from error

    def _entries(self, folder: str, prefix: str) -> Sequence[Entry]:
        found = []
        try:
            with os.scandir(self.path / PIECES / folder) as entries:
                for entry in entries:
                    if entry.name.startswith(prefix) and NAME.fullmatch(entry.name):
                        with contextlib.suppress(FileNotFoundError):
                            found.append(Entry(entry.name, entry.stat(follow_symlinks=False).st_size))
        except (FileNotFoundError, NotADirectoryError):
            return found
        except OSError as error:
            raise translate(error, f"listing {self.path}") from error
        return found

    def _read(self, name: str, offset: int, length: int) -> bytes:
        try:
            descriptor = os.open(self.path / path_of(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                return os.pread(descriptor, length, offset)
            finally:
                os.close(descriptor)
        except FileNotFoundError as error:
            raise NotFound(f"no piece {name}") from error
        except OSError as error:
            raise translate(error, f"reading {name} from {self.path}") from error
