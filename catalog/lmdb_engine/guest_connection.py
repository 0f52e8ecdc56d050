"""A guest's end of the connection to its host: commits on their way, and what the host tells."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections import deque
from collections.abc import Collection, Sequence
from typing import Final, Protocol, cast

from catalog.errors import CatalogClosed, CommitUnknown
from catalog.lmdb_engine import wire
from catalog.lmdb_engine.overlay import Writes
from catalog.lmdb_engine.settling import Settling

log = logging.getLogger("atoll.catalog")

_decode: Final = wire.decoder(wire.FromHost).decode


class Listener(Protocol):
    """Who is told what the host says besides answers."""

    def opened(self) -> None:
        """The file may be open."""
        ...

    def let_go(self, number: int) -> None:
        """The file is to be let go of, and `GuestConnection.send` to say so."""
        ...

    def durable(self, sequence: int) -> None:
        """There is a commit with this sequence."""
        ...

    def ended(self) -> None:
        """The connection is no more; told once, after all commits under way were."""
        ...


class Sent(Settling):
    """A commit that waits for its answer."""

    __slots__ = ("size", "stale", "turn")

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.stale = False
        #: With `stale`: the next attempt has a turn.
        self.turn = False


class GuestConnection(asyncio.Protocol):
    """Belongs to the event loop that it was made in."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._frames = wire.Frames()
        self._transport: asyncio.Transport | None = None
        self._outgoing: wire.Outgoing | None = None
        self._numbers = itertools.count(1)
        self._sent: dict[int, Sent] = {}
        self._bytes = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._leaving = False
        self._farewell = False
        self._ended = False

    async def connect(self, sock: socket.socket) -> None:
        """Begin to speak through a connected socket, which then belongs to this."""
        await self._loop.create_unix_connection(lambda: self, sock=sock)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._outgoing = wire.Outgoing(self._transport)

    # --- commits ---

    async def commit(
        self,
        sequence: int,
        attempt: int,
        turn: bool,
        reads: Collection[bytes],
        ranges: Sequence[tuple[bytes, bytes]],
        writes: Writes,
    ) -> Sent:
        """Send a transaction that read the snapshot with `sequence`; returns once it is durable, or stale. Raises what
        the host refused it with, CommitUnknown, CatalogClosed, or ValueError for one that is too large.

        A cancellation is held back until then, and delivered at the caller's next await."""
        number = next(self._numbers)
        body = wire.encoded(wire.Commit(number, sequence, attempt, turn, reads, ranges, writes))
        size = len(body)
        while not turn and self._sent and not self._has_room(size):
            future = self._loop.create_future()
            self._queue.append(future)
            await future
        if self._outgoing is None or self._leaving:
            raise CatalogClosed("the connection to the catalog's host is gone")
        sent = self._sent[number] = Sent(size)
        self._bytes += size
        self._add(self._outgoing, body)
        await sent.outcome()
        return sent

    def _has_room(self, size: int) -> bool:
        # One place is kept for a commit that has a turn.
        return len(self._sent) < wire.MOST_COMMITS - 1 and self._bytes + size <= wire.MOST_BYTES

    def _answer(self, number: int, error: Exception | None = None) -> Sent | None:
        sent = self._sent.pop(number, None)
        if sent is not None:
            self._bytes -= sent.size
            sent.finish(error)
            # All look again: how many of them fit depends on their sizes.
            while self._queue:
                future = self._queue.popleft()
                if not future.done():
                    future.set_result(None)
        return sent

    async def finish(self) -> None:
        """Take no more commits, and return when none waits for its answer."""
        self._leaving = True
        while self._sent:
            future = self._loop.create_future()
            self._queue.append(future)
            await future

    # --- sending ---

    def send(self, message: wire.FromGuest) -> None:
        """Send, together with what else is sent in this turn of the event loop."""
        if self._outgoing is not None:
            self._add(self._outgoing, wire.encoded(message))

    def _add(self, out: wire.Outgoing, body: bytes) -> None:
        if out.add(body):
            self._loop.call_soon(out.flush)

    def leave(self) -> None:
        """End the connection behind what was sent."""
        if self._outgoing is not None and self._transport is not None:
            self._outgoing.flush()
            self._transport.close()

    def drop(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # --- hearing ---

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._frames.feed(data):
                self._received(_decode(body))
        except (wire.ProtocolBroken, *wire.UNDECODABLE) as error:
            log.error("the catalog's host does not keep to the protocol: %s", error)
            self.drop()

    def _received(self, message: wire.FromHost) -> None:
        if isinstance(message, wire.Durable):
            # First the sequence: who waited for a commit finds it covered.
            self._listener.durable(message.sequence)
            for number in message.numbers:
                self._answer(number)
        elif isinstance(message, wire.Stale):
            sent = self._sent.get(message.number)
            if sent is not None:
                sent.stale, sent.turn = True, message.turn
                self._answer(message.number)
        elif isinstance(message, wire.Refused):
            for number in message.numbers:
                self._answer(number, wire.error_of(message))
        elif isinstance(message, wire.Opened):
            if message.version != wire.VERSION:
                raise wire.ProtocolBroken(f"it speaks version {message.version}, this program {wire.VERSION}")
            self._listener.durable(message.sequence)
            self._listener.opened()
        elif isinstance(message, wire.LetGo):
            self._listener.let_go(message.number)
        else:
            self._farewell = True
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._outgoing = None
        for number in list(self._sent):
            # What the host says farewell to it has not looked at.
            self._answer(
                number,
                CatalogClosed("the catalog is closed")
                if self._farewell
                else CommitUnknown("the connection to the catalog's host broke during a commit"),
            )
        self.drop()
        self._listener.ended()
