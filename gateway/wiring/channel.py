"""Messages, and open connections, between the processes of one gateway: over a pair of sockets that they inherit.

The sockets are of the kind SOCK_SEQPACKET, which keeps messages apart; descriptors travel beside a message. Nobody but
the two processes can reach them, so what comes is trusted.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

#: Bytes of one message at most.
MOST: Final = 128 << 10
_QUEUED: Final = 1024  # messages that wait for the other side
_DESCRIPTORS: Final = 2  # with one message
_AT_ONCE: Final = 64  # messages read between two turns of the loop


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a channel."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MOST)
    return ends


class Channel:
    """One end. `receive` is called with each message and the connections that came with it; `ended` once, when the
    other side has closed its end or died. Belongs to the running event loop."""

    def __init__(
        self, end: socket.socket, receive: Callable[[bytes, list[socket.socket]], None], ended: Callable[[], None]
    ) -> None:
        self._end, self._receive, self._ended = end, receive, ended
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[bytes, Sequence[socket.socket]]] = deque()
        end.setblocking(False)
        self._loop.add_reader(end, self._read)

    def send(self, message: bytes, connections: Sequence[socket.socket] = ()) -> bool:
        """Send a message with connections, which are closed here then; whether it was taken. It is not when the other
        side has gone or doesn't keep up: then the connections stay as they are."""
        if self._end.fileno() < 0 or len(self._queue) >= _QUEUED:
            return False
        self._queue.append((message, connections))
        if len(self._queue) == 1:
            self._write()
        return True

    def close(self) -> None:
        """Close this end; what waits is not sent any more. Idempotent."""
        if self._end.fileno() < 0:
            return
        self._loop.remove_reader(self._end)
        self._loop.remove_writer(self._end)
        self._end.close()
        for _, connections in self._queue:
            for one in connections:
                one.close()
        self._queue.clear()

    def _write(self) -> None:
        while self._queue:
            message, connections = self._queue[0]
            try:
                socket.send_fds(self._end, [message], [one.fileno() for one in connections])
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._end, self._write)
                return
            except OSError:
                self._end_now()
                return
            self._queue.popleft()
            for one in connections:
                one.close()
        self._loop.remove_writer(self._end)

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                message, descriptors, _, _ = socket.recv_fds(self._end, MOST, _DESCRIPTORS)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                message, descriptors = b"", []
            if not message:
                self._end_now()
                return
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            self._receive(message, [socket.socket(fileno=descriptor) for descriptor in descriptors])
            if self._end.fileno() < 0:
                return

    def _end_now(self) -> None:
        self.close()
        self._ended()
