"""One piece on its way into a node's folder: the steps that run in worker threads, one after the other."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from backends.disk.marker import PIECES
from backends.disk.place import Place
from backends.disk.space import Space
from backends.disk.system import close_quietly, rename_new, start_writeback, translate, write_all
from backends.errors import NotFound, PermanentError
from core.buffers import Buffer


def folder_of(name: str) -> str:
    """The fan-out folder of a piece: two hex characters of the name's random part."""
    return name[17:19]


def path_of(name: str) -> str:
    """Where a piece lies, below the node's folder."""
    return f"{PIECES}/{name[17:19]}/{name}"


class WriteGate:
    """Open until an fsync fails, then shut for the life of the open folder.

    After a failed fsync the kernel may have dropped the dirty pages and marked them clean: a second fsync would succeed
    and lie. So there is no second one, and whoever had writes under way is told that they failed.
    """

    def __init__(self) -> None:
        self.failure = ""

    def check(self) -> None:
        if self.failure:
            raise PermanentError(self.failure)

    def shut(self, error: OSError, doing: str) -> PermanentError:
        self.failure = f"{doing} failed ({error.strerror or error}); writes stay refused until the folder is reopened"
        return PermanentError(self.failure)


class Incoming:
    """A piece being written: `write` any number of times, then `finish`; or `discard` at any point between calls.

    `abandon` may be called from any thread while a step runs: a piece that is not published yet won't be.
    """

    def __init__(self, place: Place, gate: WriteGate, space: Space, name: str) -> None:
        self.place = place
        self._gate = gate
        self._space = space
        self._name = name
        self.folder = folder_of(name)
        self._temporary = ""
        self.descriptor = -1
        self._exists = False  # the temporary file
        self._written = 0
        # Whoever takes it first decides: `finish` publishes, or `abandon` forbids it. Never waited for, never released.
        self._decision = threading.Lock()
        self.published = False

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Append `buffers` and let the kernel start writing them out."""
        start = self._written
        self.append(buffers)
        start_writeback(self.descriptor, start, self._written - start)

    def finish(self, buffers: Sequence[Buffer]) -> None:
        """Append the last `buffers`, sync, and give the piece its name; on return it is durable.

        Raises AlreadyExists if the name is taken.
        """
        self.append(buffers)
        try:
            os.fdatasync(self.descriptor)
        except OSError as error:
            raise self.unsynced(error, "a piece") from error
        self.publish()
        try:
            self.place.sync_pieces(self.folder)
        except OSError as error:
            raise self.unsynced(error, "a folder") from error
        # A folder that was swapped meanwhile got bytes that nobody would find again.
        self.place.check()

    def unsynced(self, error: OSError, what: str) -> PermanentError:
        """An fsync of the piece, or of its folder, failed: shut the gate, and return what to raise."""
        return self._gate.shut(error, f"fsync of {what} in {self.place.path}")

    def publish(self) -> None:
        """Give the synced piece its name, which is durable once its folder is synced. Raises AlreadyExists."""
        try:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)
            self.place.ensure_folder(self.folder)
            self._rename()
        except OSError as error:
            raise self._explain(error) from error

    def open_folder(self) -> int:
        """A descriptor of the piece's folder, to be synced and closed; of the one above where it is gone again, because
        somebody has deleted the piece."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            return os.open(f"{PIECES}/{self.folder}", flags, dir_fd=self.place.root)
        except FileNotFoundError:
            return os.open(PIECES, flags, dir_fd=self.place.root)

    def abandon(self) -> None:
        """From now on the piece must not get its name."""
        self._decision.acquire(blocking=False)

    def discard(self) -> None:
        """Remove whatever was written, the published piece too."""
        if self.descriptor >= 0:
            close_quietly(self.descriptor)
            self.descriptor = -1
        try:
            if self._exists:
                os.unlink(self._temporary, dir_fd=self.place.root)
                self._exists = False
            if self.published:
                with self.place.removing(self.folder):
                    os.unlink(path_of(self._name), dir_fd=self.place.root)
                    self.published = False
                    self._gate.check()
                    self.place.sync_pieces(self.folder)
        except OSError as error:
            raise translate(error, f"removing an unfinished piece from {self.place.path}") from error

    def append(self, buffers: Sequence[Buffer]) -> None:
        """Write `buffers` behind what was written."""
        self._gate.check()
        size = sum(memoryview(buffer).nbytes for buffer in buffers)
        self._space.take(self.place.root, size)
        try:
            if self.descriptor < 0:
                self._temporary = self.place.temporary(self._name)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
                self.descriptor = os.open(self._temporary, flags, 0o600, dir_fd=self.place.root)
                self._exists = True
            self._written += write_all(self.descriptor, buffers)
        except OSError as error:
            raise self._explain(error) from error

    def _rename(self) -> None:
        if not self._decision.acquire(blocking=False):
            return
        root, path = self.place.root, path_of(self._name)
        try:
            rename_new(root, self._temporary, path)
        except FileNotFoundError:  # the folder went with its last piece just now
            with self.place.holding(self.folder):
                rename_new(root, self._temporary, path)
        self._exists = False
        self.published = True

    def _explain(self, error: OSError) -> Exception:
        """A missing folder means that the place itself has gone, and that is what the caller should hear."""
        self.place.check()
        answer = translate(error, f"writing {self._name} to {self.place.path}")
        if isinstance(answer, NotFound):
            return PermanentError(f"{self.place.path} lost one of its folders: {error.filename}")
        return answer
