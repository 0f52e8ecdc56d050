"""One piece on its way into a node's folder: the steps that run in worker threads, one after the other."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Sequence

from backends.disk.marker import INCOMING, PIECES
from backends.disk.place import Place
from backends.disk.space import Space
from backends.disk.system import close_quietly, rename_new, start_writeback, translate, write_all
from backends.errors import NotFound, PermanentError
from core.buffers import Buffer

_numbers = itertools.count()


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
        self._place = place
        self._gate = gate
        self._space = space
        self._name = name
        self._temporary = f"{INCOMING}/{name}.{next(_numbers)}"
        self._descriptor = -1
        self._exists = False  # the temporary file
        self._written = 0
        # Whoever takes it first decides: `finish` publishes, or `abandon` forbids it. Never waited for, never released.
        self._decision = threading.Lock()
        self.published = False

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Append `buffers` and let the kernel start writing them out."""
        start = self._written
        self._append(buffers)
        start_writeback(self._descriptor, start, self._written - start)

    def finish(self, buffers: Sequence[Buffer]) -> None:
        """Append the last `buffers`, sync, and give the piece its name; on return it is durable.

        Raises AlreadyExists if the name is taken.
        """
        self._append(buffers)
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise self._gate.shut(error, f"fsync of a piece in {self._place.path}") from error
        folder = folder_of(self._name)
        try:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
            self._place.ensure_folder(folder)
            self._publish()
        except OSError as error:
            raise self._explain(error) from error
        try:
            self._place.sync_pieces(folder)
        except OSError as error:
            raise self._gate.shut(error, f"fsync of a folder in {self._place.path}") from error
        # A folder that was swapped meanwhile got bytes that nobody would find again.
        self._place.check()

    def abandon(self) -> None:
        """From now on the piece must not get its name."""
        self._decision.acquire(blocking=False)

    def discard(self) -> None:
        """Remove whatever was written, the published piece too."""
        if self._descriptor >= 0:
            close_quietly(self._descriptor)
            self._descriptor = -1
        try:
            if self._exists:
                os.unlink(self._temporary, dir_fd=self._place.root)
                self._exists = False
            if self.published:
                folder = folder_of(self._name)
                with self._place.removing(folder):
                    os.unlink(path_of(self._name), dir_fd=self._place.root)
                    self.published = False
                    self._gate.check()
                    self._place.sync_pieces(folder)
        except OSError as error:
            raise translate(error, f"removing an unfinished piece from {self._place.path}") from error

    def _append(self, buffers: Sequence[Buffer]) -> None:
        self._gate.check()
        size = sum(memoryview(buffer).nbytes for buffer in buffers)
        self._space.take(self._place.root, size)
        try:
            if self._descriptor < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
                self._descriptor = os.open(self._temporary, flags, 0o600, dir_fd=self._place.root)
                self._exists = True
            self._written += write_all(self._descriptor, buffers)
        except OSError as error:
            raise self._explain(error) from error

    def _publish(self) -> None:
        if not self._decision.acquire(blocking=False):
            return
        root, path = self._place.root, path_of(self._name)
        try:
            rename_new(root, self._temporary, path)
        except FileNotFoundError:  # the folder went with its last piece just now
            with self._place.holding(folder_of(self._name)):
                rename_new(root, self._temporary, path)
        self._exists = False
        self.published = True

    def _explain(self, error: OSError) -> Exception:
        """A missing folder means that the place itself has gone, and that is what the caller should hear."""
        self._place.check()
        answer = translate(error, f"writing {self._name} to {self._place.path}")
        if isinstance(answer, NotFound):
            return PermanentError(f"{self._place.path} lost one of its folders: {error.filename}")
        return answer
