"""The one thread that begins, commits and aborts LMDB write transactions.

LMDB ties a write transaction's lock to the thread that began it, but not its puts. Those run on the event loop's
thread: py-lmdb lets go of the interpreter lock around each put, and on a second thread every single one would wait to
get it back from a busy loop (measured: 320 puts took 117 ms instead of 0.5). Only the commit itself, one long call
without the interpreter lock, happens here.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any

#: Called on the event loop: the error of what was asked for, if any, and the next write transaction, if one began.
Done = Callable[[BaseException | None, Any], None]


class Committer:
    """Owns the thread. At most one request is under way at a time."""

    def __init__(self, env: Any, rows: Any) -> None:
        self._env = env
        self._rows = rows
        self._loop = asyncio.get_running_loop()
        self._requests: queue.SimpleQueue[tuple[str, Any, Done] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="catalog-commit", daemon=True)
        self._thread.start()

    def begin(self, done: Done) -> None:
        """Begin a write transaction."""
        self._requests.put(("begin", None, done))

    def commit(self, txn: Any, done: Done) -> None:
        """Commit durably and begin the next one."""
        self._requests.put(("commit", txn, done))

    def abort(self, txn: Any, done: Done) -> None:
        """Drop a transaction; none is begun."""
        self._requests.put(("abort", txn, done))

    def stop(self) -> None:
        """Let the thread end after what was requested. Blocks until then."""
        self._requests.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (request := self._requests.get()) is not None:
            action, txn, done = request
            error: BaseException | None = None
            following = None
            try:
                if action == "commit":
                    txn.commit()
                elif action == "abort":
                    txn.abort()
            except Exception as raised:
                error = raised
            if error is None and action != "abort":
                try:
                    following = self._env.begin(write=True, db=self._rows)
                except Exception as raised:
                    # A commit that went through has not failed because the next transaction can't begin.
                    error = raised if action == "begin" else None
            # Kept references would keep the transaction's memory until the next request.
            request = txn = None
            try:
                self._loop.call_soon_threadsafe(done, error, following)
            except RuntimeError:
                return  # the loop is closed: nobody is left to be told
            following = None
