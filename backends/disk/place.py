"""The opened folder of a node: proof that it is still the same one, and its durable sub-folders.

Everything here runs in worker threads, except `check`, which is one `stat` of a file that is open (never waits for
the disk).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from backends.disk.marker import INCOMING, MARKER, PIECES, NodeMarker, read_marker
from backends.disk.system import close_quietly, list_folder, sync_folder, translate
from backends.disk.temporary import TemporaryFolders
from backends.errors import PermanentError, WrongIdentity


class Place:
    """An open node folder. Its descriptors close when the last user lets go of it, so no thread meets a reused one.

    `shared`: other processes may have it open, too. Then fan-out folders stay for ever: that one's name is durable is
    something that every process remembers, and none could tell that another took the folder away and made it again.
    """

    def __init__(self, path: Path, root: int, marker: int, *, shared: bool = False) -> None:
        self.path = path
        self._shared = shared
        self.root = root  # descriptor that every call below is relative to
        self._marker = marker  # descriptor that holds the lock
        status = os.fstat(marker)
        self._identity = (status.st_dev, status.st_ino)
        self.device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
        self._marker_path = str(path / MARKER)
        self._folders: set[str] = set()  # fan-out folders whose own names are durable
        self._folders_lock = threading.Lock()
        self._removing: Counter[str] = Counter()  # deletions under way in each folder
        self._temporary = TemporaryFolders(root)
        self._syncs: dict[str, _FolderSync] = {}
        self._syncs_lock = threading.Lock()

    def __del__(self) -> None:
        self._temporary.close()
        close_quietly(self._marker)
        close_quietly(self.root)

    @classmethod
    def open(cls, path: Path, expected: NodeMarker, key: bytes, *, shared: bool = False) -> Self:
        """Verify the marker, take the folder's lock (beside others that share it, if `shared`), clear what a crash left
        in `incoming/`.

        Raises WrongIdentity if this isn't the expected node; PermanentError if somebody else has it open, and one of
        the two doesn't share it.
        """
        found = read_marker(path, key)
        if found.deployment_id != expected.deployment_id:
            raise WrongIdentity(f"{path} belongs to another deployment")
        if found.node_id != expected.node_id:
            raise WrongIdentity(f"{path} is node {found.node_id.hex()}, expected {expected.node_id.hex()}")
        try:
            root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                marker = os.open(MARKER, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
            except OSError:
                os.close(root)
                raise
        except OSError as error:
            raise translate(error, f"opening {path}") from error
        place = cls(path, root, marker, shared=shared)
        place._lock()
        try:
            place._prepare()
        except OSError as error:
            raise translate(error, f"opening {path}") from error
        return place

    def unlock(self) -> None:
        """Let others open the folder. The descriptors stay until the last call that uses them has ended."""
        self._temporary.close()
        with contextlib.suppress(OSError):  # a dead file system holds no locks
            fcntl.flock(self._marker, fcntl.LOCK_UN)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._marker, (fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PermanentError(f"{self.path} is in use by another process") from error

    def _prepare(self) -> None:
        try:
            for name in (PIECES, INCOMING):
                try:
                    os.mkdir(name, 0o700, dir_fd=self.root)
                except FileExistsError:
                    continue
                sync_folder(self.root, ".")
            self._temporary.clear()
            self._temporary.renew()
            folders = set(list_folder(self.root, PIECES))
            # A folder made just before a crash may be known to the kernel alone.
            sync_folder(self.root, PIECES)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
        else:
            self._folders = folders

    def temporary(self, name: str) -> str:
        """A path below the node's folder for a new temporary file, unique to this call."""
        return self._temporary.path(name)

    def check(self) -> None:
        """Raise WrongIdentity unless the path still leads to the very marker that was verified."""
        try:
            status = os.stat(self._marker_path)
        except OSError as error:
            raise WrongIdentity(f"{self.path} has vanished: unmounted, moved or deleted") from error
        if (status.st_dev, status.st_ino) != self._identity:
            raise WrongIdentity(f"{self.path} was replaced by another folder")

    def ensure_folder(self, folder: str) -> None:
        """Make `pieces/<folder>`, durably, if it isn't there."""
        if folder in self._folders:
            return
        with self.holding(folder):
            pass

    @contextlib.contextmanager
    def holding(self, folder: str) -> Iterator[None]:
        """Like `ensure_folder`, and it stays there within."""
        with self._folders_lock:
            if folder not in self._folders:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(f"{PIECES}/{folder}", 0o700, dir_fd=self.root)
                sync_folder(self.root, PIECES)
                self._folders.add(folder)
            yield

    def lacks_folder(self, folder: str) -> bool:
        """Whether `ensure_folder` would have something to do."""
        return folder not in self._folders

    @contextlib.contextmanager
    def making(self, folders: set[str]) -> Iterator[int]:
        """For `ensure_folder` of several: they are there within. Once the descriptor of `pieces/` that this yields has
        been synced, `keep_folders` is to be told."""
        with self._folders_lock:
            descriptor = os.open(PIECES, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.root)
            try:
                for folder in folders - self._folders:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(f"{PIECES}/{folder}", 0o700, dir_fd=self.root)
                yield descriptor
            finally:
                close_quietly(descriptor)

    def keep_folders(self, folders: set[str]) -> None:
        """Within `making`: the names of these folders are durable."""
        self._folders.update(folders)

    @contextlib.contextmanager
    def removing(self, folder: str) -> Iterator[None]:
        """Unlink pieces of `pieces/<folder>` and make that durable within; the folder goes with its last piece.

        So a put may find the folder gone right after `ensure_folder`: then it publishes again, `holding` it.
        """
        with self._folders_lock:
            self._removing[folder] += 1
        try:
            yield
        finally:
            with self._folders_lock:
                self._removing[folder] -= 1
                if not self._removing[folder]:  # else it would take away what the others are about to sync
                    del self._removing[folder]
                    self._drop_empty(folder)

    def _drop_empty(self, folder: str) -> None:
        if self._shared:
            return
        known = folder in self._folders
        self._folders.discard(folder)  # before it goes: who still saw it here fails, then waits for the lock
        try:
            os.rmdir(f"{PIECES}/{folder}", dir_fd=self.root)
        except FileNotFoundError:
            return
        except OSError:  # not empty, as a rule
            if known:
                self._folders.add(folder)

    def sync_pieces(self, folder: str) -> None:
        """Make every rename and unlink in `pieces/<folder>` so far durable; concurrent calls share one fsync."""
        with self._syncs_lock:
            sync = self._syncs.get(folder)
            if sync is None:
                sync = self._syncs[folder] = _FolderSync()
            sync.users += 1
        try:
            sync.run(self.root, f"{PIECES}/{folder}")
        finally:
            with self._syncs_lock:
                sync.users -= 1
                if not sync.users:
                    del self._syncs[folder]


class _FolderSync:
    """Group commit of one folder: an fsync serves all who asked before it began; who comes later waits for the next."""

    def __init__(self) -> None:
        self.users = 0
        self._changed = threading.Condition()
        self._asked = 0
        self._served = 0
        self._running = False
        self._error: OSError | None = None

    def run(self, root: int, path: str) -> None:
        with self._changed:
            self._asked += 1
            ticket = self._asked
            while self._served < ticket:
                if self._error is not None:
                    raise self._error
                if self._running:
                    self._changed.wait()
                    continue
                self._running = True
                goal = self._asked
                self._changed.release()
                failure: OSError | None = None
                try:
                    _sync_or_parent(root, path)
                except OSError as error:
                    failure = error
                finally:
                    self._changed.acquire()
                    self._running = False
                    self._error = failure
                    if failure is None:
                        self._served = goal
                    self._changed.notify_all()


def _sync_or_parent(root: int, path: str) -> None:
    """fsync a fan-out folder; where it went with its last piece, that is what must be durable."""
    try:
        sync_folder(root, path)
    except FileNotFoundError:
        sync_folder(root, PIECES)
