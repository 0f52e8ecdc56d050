"""A further process of a gateway, forked by the `nursery` as `guests` asks for it.

It holds two sockets whose other ends the host has. A guest has the rooms that serve requests and what looks after them;
all other work is its host's. It ends after a drain at SIGTERM, and at once when the host has gone: nothing could be
committed any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import sys
from functools import partial

import click
import uvloop

from catalog.epochs import EpochKeeper
from catalog.lmdb_engine.guest import GuestCatalog
from core.errors import AtollError
from core.logs import configure
from core.memory import spare_long_lived
from core.worker_runner import WorkerRunner
from core.workers import Standby, Worker, WorkerReport, WorkerState
from engine.collection import CollectionWorker
from engine.compaction import CompactionWorker
from engine.suspicion import HealthWorker
from gateway.wiring import guest_messages as messages
from gateway.wiring.channel import Channel
from gateway.wiring.metrics_sources import add_serving_sources
from gateway.wiring.moving import ToHost
from gateway.wiring.nodes import NodeFollower
from gateway.wiring.presence import presence
from gateway.wiring.rooms import Rooms
from gateway.wiring.settings import Settings

_PAGE_SECONDS = 3.0


class OwnLeftovers:
    """What a worker does for its own process while another one has the work."""

    def __init__(self, worker: Worker) -> None:
        assert isinstance(worker, Standby)
        self.name, self.interval = worker.name, worker.interval
        self._worker, self._standby = worker, worker

    async def turn(self) -> WorkerState:
        return await self._standby.standby()

    def report(self) -> WorkerReport:
        return self._worker.report()


class Guest(Rooms):
    """Everything of a guest. `start` once, then `close` once."""

    catalog: GuestCatalog

    def __init__(self, settings: Settings, control: socket.socket, stop: asyncio.Event) -> None:
        super().__init__(settings)
        self._stop = stop
        self._pages: dict[int, tuple[asyncio.Future[bytes], list[bytes]]] = {}
        self._number = 0
        self.failed = False
        self._tidying: asyncio.Task[None] | None = None
        self._channel = Channel(control, self._receive, _host_gone)
        take = messages.encode(messages.Take())
        self._mover = ToHost(lambda connection: self._channel.send(take, [connection]))

    async def start(self, catalog: socket.socket) -> None:
        """Open everything and tell the host."""
        on_close = self.closing.push_async_callback
        self.catalog = await GuestCatalog.open(self.settings.data / "catalog", catalog, on_lost=_host_gone)
        on_close(self.catalog.close)
        await self.furnish(may_create=False)
        self._expect_key()  # the rotation may have begun before it could be told
        keeper = EpochKeeper(
            self.epochs,
            expiry=math.inf,  # the host judges who lives: while it is stopped nobody can tell
            lost=self._lost,
            note=partial(presence, self),
        )
        self._runner = runner = WorkerRunner(
            [
                HealthWorker(self.bodies, self.placer, self.clock),
                keeper,
                NodeFollower(self.nodes),
                OwnLeftovers(CollectionWorker(self.bodies, covers=None)),
                OwnLeftovers(CompactionWorker(self.bodies, lambda: runner.breathe(CompactionWorker.name))),
                self.bodies.stage,
            ],
            self.server.load,
        )
        self.closing.push_async_callback(runner.close)
        self.bodies.stage.wake = partial(runner.wake, self.bodies.stage.name)
        self.bodies.stage.settle = partial(self._channel.send, messages.encode(messages.Settle()))
        runner.start()
        add_serving_sources(self, runner)
        on_close(self.server.drain)
        await self.server.open(self._mover)
        self.why_not_ready = ""
        self._channel.send(messages.encode(messages.Ready()))

    async def page(self) -> bytes:
        """The page of metrics, of all processes together, as the host makes it."""
        number = self._number = self._number + 1
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pages[number] = future, []
        try:
            self._channel.send(messages.encode(messages.TellPage(number)))
            return await asyncio.wait_for(future, _PAGE_SECONDS)
        finally:
            del self._pages[number]

    def _receive(self, data: bytes, connections: list[socket.socket]) -> None:
        message = messages.decode(data)
        if isinstance(message, messages.Serve):
            for connection in connections:
                self.server.let_in(connection, moved=message.moved)
        elif isinstance(message, messages.Reload):
            self.reload_certificate()
        elif isinstance(message, messages.TellFigures):
            self._tell_figures(message.number)
        elif isinstance(message, messages.Ping):
            self._mover.room = message.room
            self._done(message.number)
        elif isinstance(message, messages.ExpectKey):
            self._expect_key()
            self._done(message.number)
        elif isinstance(message, messages.Tidy):
            self._tidy(message.number)
        elif isinstance(message, messages.Page) and message.number in self._pages:
            future, parts = self._pages[message.number]
            parts.append(message.part)
            if message.last and not future.done():
                future.set_result(b"".join(parts))

    def _tell_figures(self, number: int) -> None:
        figures = self.metrics.figures()
        for start in range(0, max(len(figures), 1), messages.FIGURES):
            end = start + messages.FIGURES
            part = messages.Figures(number, figures[start:end], end >= len(figures))
            self._channel.send(messages.encode(part))

    def _done(self, number: int) -> None:
        self._channel.send(messages.encode(messages.Figures(number, [], last=True)))

    def _expect_key(self) -> None:
        """Know the root key that a rotation is about to put in force."""
        if hasattr(self, "deployment") and (following := self.deployment.key_file.read_next()) is not None:
            self.deployment.keyring.expect(following)

    def _tidy(self, number: int) -> None:
        async def tidy() -> None:
            with contextlib.suppress(AtollError):
                await self.placer.probe(force=True)
                await self.bodies.stage.hand_over()
                for worker in (CollectionWorker.name, CompactionWorker.name):
                    await self._runner.run(worker)
                await self.catalog.sequence()  # all that the host has committed, so that no read can see before it
                await self.epochs.beat()
            self._done(number)

        if self._tidying is None or self._tidying.done():
            self._tidying = asyncio.create_task(tidy(), name="tidy")

    def _lost(self) -> None:
        """Declared dead, because it was stopped for long: the host starts another one."""
        self.failed = True
        self.hurry()
        self._stop.set()


def _host_gone() -> None:
    os._exit(1)


async def _serve(settings: Settings, control: socket.socket, catalog: socket.socket) -> bool:
    """Serve until told to stop; whether that was in order."""
    stop = asyncio.Event()
    guest = Guest(settings, control, stop)

    def on_stop() -> None:
        if stop.is_set():
            guest.hurry()
        stop.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_stop)
    try:
        await guest.start(catalog)
        spare_long_lived()
        await stop.wait()
    finally:
        await guest.close()
    return not guest.failed


def live(settings: Settings, control: socket.socket, catalog: socket.socket) -> int:
    """Serve until told to stop; the exit code."""
    plain = settings.log.plain or sys.stderr.isatty()
    sink = configure(sys.stderr, level=settings.log.level, access_log=settings.log.access, plain=plain)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            good = runner.run(_serve(settings, control, catalog))
    except AtollError as error:
        click.echo(f"atoll: {error}", err=True)
        good = False
    finally:
        sink.close()
    return 0 if good else 1
