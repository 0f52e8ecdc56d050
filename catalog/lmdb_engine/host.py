"""The owner's side of guest processes: it checks what their transactions read and commits what they write.

A guest's commit names the snapshot that it read. If nothing that it read was written since, by a commit or by what is
pending, it joins the gathering batch in that same step, so it is serial with the host's own transactions.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Final

import lmdb

from catalog.errors import CatalogClosed
from catalog.gate import CommitGate
from catalog.lmdb_engine import wire
from catalog.lmdb_engine.environment import Environment
from catalog.lmdb_engine.history import CommitHistory, touches
from catalog.lmdb_engine.host_connection import HostConnection
from catalog.lmdb_engine.overlay import Batch
from catalog.lmdb_engine.turns import Turns
from catalog.lmdb_engine.writer import Writer
from catalog.waiters import SequenceWaiters

_TURN_FROM: Final = 8  # the attempt that gets a turn when it too is outdated
_LEAVE_SECONDS: Final = 1.0
_LINGER_SECONDS: Final = 1.0  # after which a killed process has let go of everything


class GuestHost:
    """All guests of one catalog. Belongs to the catalog's event loop."""

    def __init__(self, writer: Writer, gate: CommitGate, environment: Environment) -> None:
        self.writer = writer
        self.gate = gate
        self._environment = environment
        self._history = CommitHistory(writer.sequence)
        self._guests: set[HostConnection] = set()
        self._joined: dict[Batch, dict[HostConnection, list[int]]] = {}
        self._outdated: dict[Batch, dict[HostConnection, list[int]]] = {}
        self._turns = Turns(writer)
        self._tasks: set[asyncio.Task[None]] = set()
        self._opened = True
        self._closed = False
        self._asked = 0  # the number of the last LetGo
        self._answered = SequenceWaiters()
        writer.observer = self._settled

    # --- coming and going ---

    def admit(self, sock: socket.socket) -> asyncio.Task[None]:
        """Serve the guest at the other end; the task ends when it has left, and cancelled lets it go."""
        if self._closed:
            raise CatalogClosed("the catalog is closed")
        return asyncio.get_running_loop().create_task(self._serve(sock))

    async def _serve(self, sock: socket.socket) -> None:
        guest = HostConnection(self)
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: guest, sock=sock)
            await guest.left.wait()
        finally:
            guest.drop()

    def entered(self, guest: HostConnection) -> None:
        """The guest is connected."""
        if self._closed:
            guest.drop()
            return
        self._guests.add(guest)
        if self._opened:
            guest.send(self._open_message())
        else:
            guest.released = self._asked  # it never had the file open

    def gone(self, guest: HostConnection) -> None:
        """The connection ended."""
        self._guests.discard(guest)
        self._turns.end(guest)
        self._answered.wake()
        self._clear_readers()
        # Of a process that is being killed the connection may go before its place among the readers.
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._clear_readers)

    def _clear_readers(self) -> None:
        if not self._closed:
            with suppress(lmdb.Error):
                self._environment.clear_readers()

    @property
    def read_for_long(self) -> bool:
        """Whether a guest has long reads open."""
        return any(guest.reading_long for guest in self._guests)

    async def close(self) -> None:
        """Let all guests go, once the writer is closed."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for guest in list(self._guests):
            guest.send(wire.Farewell())
            guest.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                while self._guests:
                    await self._answered.wait()
        for guest in list(self._guests):
            guest.drop()

    # --- the file ---

    async def release(self, seconds: float) -> bool:
        """Ask all guests to let go of the file. Returns whether they did; if so, none has it open before `reopen`."""
        self._opened = False
        self._asked += 1
        for guest in self._guests:
            guest.send(wire.LetGo(self._asked))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._all_released():
                    await self._answered.wait()
        return self._all_released()

    def _all_released(self) -> bool:
        return all(guest.released == self._asked for guest in self._guests)

    def released(self) -> None:
        """A guest has let go of the file."""
        self._answered.wake()

    def reopen(self) -> None:
        """After `release`, however it ended: guests may have the file open."""
        if not self._opened:
            self._opened = True
            for guest in self._guests:
                guest.send(self._open_message())

    def _open_message(self) -> wire.Opened:
        return wire.Opened(wire.VERSION, self.writer.sequence)

    # --- commits ---

    def has_turn(self, guest: HostConnection) -> bool:
        """Whether all others wait for this guest."""
        return self._turns.holder is guest

    def end_turn(self, guest: HostConnection) -> None:
        """The guest needs its turn no more."""
        self._turns.end(guest)

    def decide(self, guest: HostConnection, commit: wire.Commit) -> None:
        """Let the commit join, or tell the guest that it is outdated. In one step, while the writer is ready. Raises
        CatalogMoving."""
        self.gate.enter()
        try:
            outdated = self._outdated_by(commit)
            if outdated is None:
                batch = self.writer.join(commit.writes)
                assert batch is not None
                self._joined.setdefault(batch, {}).setdefault(guest, []).append(commit.number)
        except BaseException:
            self.gate.leave()
            raise
        if outdated is None:
            if commit.turn:
                self._turns.end(guest)
            return  # `_settled` leaves the gate
        self.gate.leave()
        if commit.attempt >= _TURN_FROM and not commit.turn:
            task = asyncio.get_running_loop().create_task(
                self._turns.give(guest, lambda: guest.send(wire.Stale(commit.number, True)))
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif isinstance(outdated, Batch):
            self._outdated.setdefault(outdated, {}).setdefault(guest, []).append(commit.number)
        else:
            guest.send(wire.Stale(commit.number, False))

    def _outdated_by(self, commit: wire.Commit) -> Batch | bool | None:
        """What wrote something that the commit read: a pending batch, True for a commit; None if nothing did."""
        reads, ranges, writer = commit.reads, commit.ranges, self.writer
        if not reads and not ranges:
            return None
        for batch in writer.pending:
            if batch is writer.writing and batch.sequence <= commit.sequence:
                continue  # it is committed, and the guest has seen it before us
            if not batch.writes.keys().isdisjoint(reads) or (ranges and touches(batch.keys(), ranges)):
                return batch
        return True if self._history.changed(commit.sequence, reads, ranges) else None

    def _settled(self, batch: Batch, error: Exception | None) -> None:
        """The batch is durable, or failed."""
        joined = self._joined.pop(batch, {})
        if error is None:
            self._history.add(batch)
            sequence = batch.sequence
            for guest in self._guests:
                guest.durable(sequence, joined.get(guest, ()))
        else:
            for guest, numbers in joined.items():
                guest.send(wire.refusal(numbers, error))
        for numbers in joined.values():
            for _ in numbers:
                self.gate.leave()
        for guest, numbers in self._outdated.pop(batch, {}).items():
            for number in numbers:
                guest.send(wire.Stale(number, False))
