"""Connections on their way from one process of a gateway to another, between two requests.

Which process serves a connection best depends on what comes on it. Small writes are best made where the catalog is
written: each costs a message less, and one process does more of them in a second than two that wait for each other.
"""

from __future__ import annotations

import socket
from typing import Final, Protocol

#: Requests that are for the most part small writes, or not, until a connection has shown its leaning.
SHOWN: Final = 32
#: Bytes of a request, with its head, up to which a write is a small one.
SMALL: Final = 72 << 10

_HEAD_END: Final = b"\r\n\r\n"
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Mover(Protocol):
    """Decides where a process's connections are served from now on."""

    def wants(self, leaning: int, moved: bool) -> bool:
        """Whether a connection should leave for another process. `leaning`: `SHOWN` for small writes, the negative of
        it for other requests, and all between for both in turns. `moved`: it came from another process itself."""
        ...

    def move(self, connection: socket.socket) -> bool:
        """Hand a connection over; whether it is gone, else the socket stays the caller's."""
        ...


class Course:
    """What the requests of one connection are like, and whether it can leave: what the client sends from then on is
    read elsewhere, so nothing of it may have been read here. `moved`: it came from another process itself."""

    __slots__ = ("_counted", "_head_end", "_leaning", "moved", "watched")

    def __init__(self, moved: bool) -> None:
        self.moved = moved
        #: It wants to leave: `begins` is to be told how the next request begins.
        self.watched = False
        self._leaning = 0
        self._counted = 0  # bytes of the requests that are in it
        self._head_end = -1  # where the head of the request under way ends, in bytes received; unknown: -1

    def begins(self, received: int, data: bytes) -> None:
        """After `received` bytes and while nothing was under way, these came."""
        end = data.find(_HEAD_END)
        self._head_end = received + end + len(_HEAD_END) if end >= 0 else -1

    def leads_away(self, mover: Mover, method: str, received: int, body: int) -> bool:
        """Behind the answer to a request with `body` bytes, `received` ones in all: whether the connection should and
        can leave now. Where it only should, the next request may show that it can."""
        size, self._counted = received - self._counted, received
        self._leaning = leaning_with(self._leaning, method, size)
        if not mover.wants(self._leaning, self.moved):
            self.watched = False
            return False
        if self.watched and self._head_end + body == received:
            return True
        self.watched, self._head_end = True, -1
        return False


def leaning_with(leaning: int, method: str, size: int) -> int:
    """What a connection's leaning is with one more request, of so many bytes in all."""
    if method not in _READS and size <= SMALL:
        return min(SHOWN, leaning + 1)
    return max(-SHOWN, leaning - 1)
