"""The host's end of the connection to one guest: messages, bounds, and the order of commits that wait."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from catalog.errors import CatalogError
from catalog.limits import check_rows
from catalog.lmdb_engine import wire

if TYPE_CHECKING:
    from catalog.lmdb_engine.host import GuestHost

log = logging.getLogger("atoll.catalog")

_SOON: Final = 0.02  # seconds until a guest hears of others' commits

_decode: Final = wire.decoder(wire.FromGuest).decode


class HostConnection(asyncio.Protocol):
    """Serves one guest. What it may have under way is bounded; one that does not keep to it is let go."""

    def __init__(self, host: GuestHost) -> None:
        self._host = host
        self._frames = wire.Frames()
        self._transport: asyncio.Transport | None = None
        self._outgoing: wire.Outgoing | None = None
        self._under_way: dict[int, int] = {}  # commit → bytes
        self._bytes = 0
        self._waiting: deque[wire.Commit] = deque()
        self._admitting: asyncio.Task[None] | None = None
        self._receiving = False
        self._stuck = False  # the guest does not read what it is sent
        self._behind = 0  # the sequence that it was not told of yet
        self._telling: asyncio.TimerHandle | None = None
        #: The number of the last LetGo that it answered.
        self.released = 0
        self.reading_long = False
        #: Set once the connection has ended.
        self.left = asyncio.Event()

    # --- the connection ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._outgoing = wire.Outgoing(self._transport)
        self._host.entered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._outgoing = None
        self._waiting.clear()
        if self._telling is not None:
            self._telling.cancel()
        if self._admitting is not None:
            self._admitting.cancel()
        self.left.set()
        self._host.gone(self)

    def pause_writing(self) -> None:
        self._stuck = True

    def resume_writing(self) -> None:
        self._stuck = False
        self._tell()

    def leave(self) -> None:
        """End the connection behind what was sent."""
        if self._transport is not None:
            self._transport.close()

    def drop(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # --- what the guest is told ---

    def send(self, message: wire.FromHost) -> bool:
        """Send a message; together with others while what the guest sent is being worked on. False when it has left."""
        out = self._outgoing
        if out is None:
            return False
        if isinstance(message, wire.Stale):
            self._end(message.number)
        elif isinstance(message, wire.Refused):
            for number in message.numbers:
                self._end(number)
        out.add(wire.encoded(message))
        if not self._receiving:
            out.flush()
        return True

    def durable(self, sequence: int, numbers: Sequence[int]) -> None:
        """Tell of a commit and which of the guest's were in it. Of others' commits it hears a moment later, of many at
        once: to wake it for each costs more than it is worth. One that does not read hears when it reads again."""
        if numbers:
            self._behind = 0
            for number in numbers:
                self._end(number)
            self.send(wire.Durable(sequence, numbers))
            return
        self._behind = sequence
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(_SOON, self._tell)

    def _tell(self) -> None:
        """Tell of what it was not told yet, unless it does not read."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._behind and not self._stuck:
            sequence, self._behind = self._behind, 0
            self.send(wire.Durable(sequence, ()))

    def _end(self, number: int) -> None:
        self._bytes -= self._under_way.pop(number, 0)

    # --- what the guest says ---

    def data_received(self, data: bytes) -> None:
        self._receiving = True
        try:
            for body in self._frames.feed(data):
                self._received(_decode(body), len(body))
        except (wire.ProtocolBroken, *wire.UNDECODABLE) as error:
            log.error("a guest process is let go, it does not keep to the protocol: %s", error)
            self.drop()
        finally:
            self._receiving = False
            if self._outgoing is not None:
                self._outgoing.flush()

    def _received(self, message: wire.FromGuest, size: int) -> None:
        if isinstance(message, wire.Commit):
            self._take(message, size)
        elif isinstance(message, wire.Released):
            self.released = message.number
            self._host.released()
        elif isinstance(message, wire.ReadingLong):
            self.reading_long = message.open
        else:
            self._host.end_turn(self)

    def _take(self, commit: wire.Commit, size: int) -> None:
        under_way = self._under_way
        if commit.number in under_way or not commit.writes or len(under_way) >= wire.MOST_COMMITS:
            raise wire.ProtocolBroken("a commit that may not be sent")
        # One that has a turn does not wait for room.
        if under_way and self._bytes + size > wire.MOST_BYTES * (1 + commit.turn):
            raise wire.ProtocolBroken("too many bytes under way")
        under_way[commit.number] = size
        self._bytes += size
        try:
            check_rows(commit.writes)
        except ValueError as error:
            self.send(wire.refusal((commit.number,), error))
            return
        writer = self._host.writer
        turn = commit.turn and self._host.has_turn(self) and writer.refuses is None
        if turn or (writer.ready and not self._waiting):
            self._decide(commit)
        else:
            self._waiting.append(commit)
            if self._admitting is None:
                self._admitting = asyncio.get_running_loop().create_task(self._admit_waiting())

    def _decide(self, commit: wire.Commit) -> None:
        try:
            self._host.decide(self, commit)
        except CatalogError as error:
            self.send(wire.refusal((commit.number,), error))

    async def _admit_waiting(self) -> None:
        """Decide on the commits that wait, in their order, as soon as the writer takes any."""
        writer = self._host.writer
        while self._waiting:
            try:
                await writer.wait_ready()
            except CatalogError as error:
                self.send(wire.refusal((self._waiting.popleft().number,), error))
            else:
                self._decide(self._waiting.popleft())
        self._admitting = None
