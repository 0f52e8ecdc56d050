"""Where a process writes pieces before they have their names: folders of its own below `incoming/`.

Each is locked by the process that writes there, so what a process left that died can be told from what a living one is
writing: several may share a node's folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import threading

from backends.disk.marker import INCOMING
from backends.disk.system import close_quietly, list_folder, spread_subfolders

#: Temporary files that one folder sees made.
_TEMPORARIES = 4096
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class TemporaryFolders:
    """This process's folders below `incoming/` of the open folder `root`. Everything runs in worker threads."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._held: dict[str, int] = {}  # folder, oldest first -> the descriptor that locks it
        self._current = INCOMING
        self._made = 0

    def close(self) -> None:
        """Give up the locks: what is left is free to be cleared."""
        for descriptor in self._held.values():
            close_quietly(descriptor)
        self._held.clear()

    def path(self, name: str) -> str:
        """A path below `root` for a new temporary file, unique to this call."""
        with self._lock:
            self._made += 1
            number = self._made
            if number % _TEMPORARIES == 0:
                with contextlib.suppress(OSError):  # then the old one serves on
                    self.renew()
            return f"{self._current}/{name}.{number}"

    def clear(self) -> None:
        """Remove what no living process is writing."""
        for leftover in list_folder(self._root, INCOMING):
            path = f"{INCOMING}/{leftover}"
            try:
                descriptor = os.open(path, _FLAGS | os.O_NOFOLLOW, dir_fd=self._root)
            except NotADirectoryError:
                os.unlink(path, dir_fd=self._root)
                continue
            except FileNotFoundError:
                continue  # another process was faster
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for name in list_folder(descriptor, "."):
                    os.unlink(name, dir_fd=descriptor)
                os.rmdir(path, dir_fd=self._root)
            except BlockingIOError:
                continue  # somebody writes there
            finally:
                close_quietly(descriptor)

    def renew(self) -> None:
        """Go on in a fresh folder, for ext4's sake.

        It makes a file in its folder's block group, and walks there over every inode that was freed in the last
        minutes: where much was deleted, making a file took four times the processor time of all else. A fresh folder
        with a name of its own lies in another group, on a file system that can be told to spread folders.
        """
        spread_subfolders(self._root, INCOMING)
        fresh, descriptor = self._make()
        # The last one stays: somebody may be about to make a file in it. Those before it are empty, but for a piece
        # that takes long: such a one stays locked, and goes at another time.
        for folder in [folder for folder in self._held if folder != self._current]:
            with contextlib.suppress(OSError):
                os.rmdir(folder, dir_fd=self._root)
                close_quietly(self._held.pop(folder))
        self._held[fresh] = descriptor
        self._current = fresh

    def _make(self) -> tuple[str, int]:
        """A new folder, and a descriptor that locks it."""
        while True:
            fresh = f"{INCOMING}/{secrets.token_hex(8)}"
            os.mkdir(fresh, 0o700, dir_fd=self._root)
            descriptor = -1
            try:
                descriptor = os.open(fresh, _FLAGS, dir_fd=self._root)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Until it was locked, another process that opened the node could take it for one that is left.
                if os.stat(fresh, dir_fd=self._root).st_ino == os.fstat(descriptor).st_ino:
                    return fresh, descriptor
            except (FileNotFoundError, BlockingIOError):
                close_quietly(descriptor)
            except OSError:
                close_quietly(descriptor)
                raise
            else:
                close_quietly(descriptor)
