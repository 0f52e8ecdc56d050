"""The further processes of a gateway, as the first one, their host, sees them: started, given connections, ended.

The `nursery` forks them. A guest serves connections that the host accepts and hands over in turn. It reads the
catalog's file itself and commits through the host (`catalog.lmdb_engine.guest`). One that dies is replaced; when the
host dies the guests end at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from core.metrics import Figure
from gateway.wiring import guest_messages as messages
from gateway.wiring.channel import Channel, pair
from gateway.wiring.moving import STEP, FromHost, Load
from gateway.wiring.nursery import Child, Nursery
from gateway.wiring.settings import Settings

log = logging.getLogger("atoll.gateway")

_PATIENCE: Final = 20.0  # seconds that a start waits for guests
_PULSE: Final = 0.5  # seconds between two looks whether a guest still runs
_ANSWER: Final = 1.0  # seconds that a guest has to answer, or to tell its figures
_TIDINESS: Final = 10.0  # the same to hand over what is superfluous
_FAREWELL: Final = 5.0  # seconds beyond the drain's own limits until a guest is killed
_FIRST_PAUSE: Final = 0.5  # seconds before a guest that died is replaced; doubled for one that dies again at once
_LONGEST_PAUSE: Final = 30.0

#: Gives a process access to the catalog over a socket, until the task ends.
Admit = Callable[[socket.socket], asyncio.Task[None]]


class _Guest:
    """One process."""

    def __init__(self, process: Child, control: socket.socket, access: asyncio.Task[None], guests: Guests) -> None:
        self.process, self._access = process, access
        self.ready = asyncio.Event()
        self.hangs = False
        self._guests = guests
        self._answers: dict[int, tuple[asyncio.Future[list[Figure]], list[Figure]]] = {}
        self._number = 0
        self.channel = Channel(control, self._receive, self.ready.clear)

    @property
    def serves(self) -> bool:
        """Whether it takes connections now."""
        return self.ready.is_set() and not self.hangs

    async def figures(self) -> list[Figure]:
        """What it counts; nothing when it does not answer in time."""
        return await self._ask(messages.TellFigures, _ANSWER) or []

    async def tidy(self) -> None:
        """See `Guests.tidy`; as far as it can in time."""
        await self._ask(messages.Tidy, _TIDINESS)

    async def expect_key(self) -> bool:
        """See `Guests.expect_key`."""
        return await self._ask(messages.ExpectKey, _TIDINESS) is not None

    async def watch(self) -> None:
        """From when it is ready: notice whether it hangs, and tell it what it may hand over. Runs until cancelled."""
        load = Load()
        while True:
            await asyncio.sleep(_PULSE)
            room = self._guests.room_for_more(load.share())
            hangs = await self._ask(partial(messages.Ping, room=room), _ANSWER) is None
            if hangs != self.hangs:
                self.hangs = hangs
                fields = {"pid": self.process.pid}
                if hangs:
                    log.warning("a process of the gateway hangs: it gets no connections", extra={"fields": fields})
                else:
                    log.info("a process of the gateway answers again", extra={"fields": fields})

    async def _ask(self, question: Callable[[int], messages.Message], seconds: float) -> list[Figure] | None:
        number = self._number = self._number + 1
        future: asyncio.Future[list[Figure]] = asyncio.get_running_loop().create_future()
        self._answers[number] = future, []
        try:
            self.channel.send(messages.encode(question(number)))
            return await asyncio.wait_for(future, seconds)
        except TimeoutError:
            return None
        finally:
            del self._answers[number]

    async def close(self) -> None:
        """Forget the process, which has ended."""
        self.channel.close()
        self._access.cancel()
        await asyncio.gather(self._access, return_exceptions=True)

    def _receive(self, data: bytes, connections: list[socket.socket]) -> None:
        message = messages.decode(data)
        if isinstance(message, messages.Ready):
            self.ready.set()
        elif isinstance(message, messages.Take):
            for connection in connections:
                self._guests.take(connection)
        elif isinstance(message, messages.Settle):
            self._guests.settle()
        elif isinstance(message, messages.TellPage):
            self._guests.tell_page(self.channel, message.number)
        elif isinstance(message, messages.Figures) and message.number in self._answers:
            future, found = self._answers[message.number]
            found.extend(message.figures)
            if message.last and not future.done():
                future.set_result(found)


class Guests:
    """All guests of a host: one fewer than the settings' `processes`, none without a nursery. `begin`, then `close`,
    which may be called again. `page` makes the page of metrics; `settle` is called when a guest has staged much, `take`
    with a connection that a guest hands over, and `room` tells how many of those can be served here."""

    def __init__(self, settings: Settings, nursery: Nursery | None, *, page: Callable[[], Awaitable[bytes]]) -> None:
        self._settings, self._nursery, self._page = settings, nursery, page
        self._count = settings.process_count - 1 if nursery is not None else 0
        self._seats: list[_Guest | None] = [None] * self._count
        self._keepers: list[asyncio.Task[None]] = []
        self._pages: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()  # a guest can serve, or has ended
        self._failed = False  # one that was started ended with an error
        self._ending = asyncio.Event()
        self._turn = 0
        self.settle: Callable[[], None] = lambda: None
        self.take: Callable[[socket.socket], None] = socket.socket.close
        self.room: Callable[[], int] = lambda: 0
        #: Gives connections of the host to guests.
        self.mover = FromHost(self._give)

    async def begin(self, admit: Admit) -> None:
        """Start all, which `admit` gives access to the catalog, and wait until they can serve, or one failed: the host
        serves without it then, and it is tried again."""
        if self._nursery is None:
            return
        self._nursery.open()
        self._keepers = [
            asyncio.create_task(self._keep(seat, self._nursery, admit), name=f"guest {seat + 1}")
            for seat in range(self._count)
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while not self._failed and self.serving < self._count:
                    await self._changed.wait()
                    self._changed.clear()

    # --- while they serve ---

    def pass_on(self, connection: socket.socket) -> bool:
        """Hand an accepted connection to the process whose turn it is; False: it is the host's own to serve."""
        if self._ending.is_set():
            return False
        self._turn = (self._turn + 1) % (self._count + 1)
        guest = self._seats[self._turn - 1] if self._turn else None
        if guest is None or not guest.serves:
            return False
        return guest.channel.send(_SERVE, [connection])

    def _give(self, connection: socket.socket) -> bool:
        """Hand a connection that a guest has served before to one of them."""
        ready = self._ready()
        if self._ending.is_set() or not ready:
            return False
        self._turn = (self._turn + 1) % (self._count + 1)
        return ready[self._turn % len(ready)].channel.send(_SERVE_MOVED, [connection])

    def room_for_more(self, share: float) -> int:
        """How many connections with small writes a guest may hand over now, where the host's event loop takes `share`
        of a processor."""
        more = self.mover.judge(share) and not self._ending.is_set()
        return min(STEP, self.room()) if more else 0

    @property
    def serving(self) -> int:
        """How many take connections now."""
        return len(self._ready())

    async def figures(self) -> list[Figure]:
        """What all guests count."""
        found = await asyncio.gather(*(guest.figures() for guest in self._ready()))
        return [figure for figures in found for figure in figures]

    async def tidy(self) -> None:
        """Have all hand over what only they know to be superfluous, and publish how far back their reads can still see:
        for whoever wants everything collected now."""
        await asyncio.gather(*(guest.tidy() for guest in self._ready()))

    async def expect_key(self) -> bool:
        """Before the next root key, whose file is there, is put in force: have all that run know it. False if one does
        not answer. One that starts later looks for the file itself."""
        running = [guest for guest in self._seats if guest is not None]
        return all(await asyncio.gather(*(guest.expect_key() for guest in running)))

    def _ready(self) -> list[_Guest]:
        return [guest for guest in self._seats if guest is not None and guest.serves]

    def reload_certificate(self) -> None:
        """Let them take new certificate files into service."""
        for guest in self._seats:
            if guest is not None:
                guest.channel.send(messages.encode(messages.Reload()))

    def tell_page(self, channel: Channel, number: int) -> None:
        """Answer a guest that was asked for the page of metrics."""
        task = asyncio.create_task(self._tell_page(channel, number))
        self._pages.add(task)
        task.add_done_callback(self._pages.discard)

    async def _tell_page(self, channel: Channel, number: int) -> None:
        page = await self._page()
        for start in range(0, len(page), messages.PAGE):
            part = page[start : start + messages.PAGE]
            channel.send(messages.encode(messages.Page(number, part, start + messages.PAGE >= len(page))))

    async def renew(self) -> None:
        """Replace all processes, one after the other, each when what it serves has ended: for what they learn only when
        they start."""
        for seat in range(self._count):
            guest = self._seats[seat]
            if guest is None or self._ending.is_set():
                continue
            guest.ready.clear()
            guest.process.signal(signal.SIGTERM)
            await guest.process.wait()

    # --- the end ---

    def end(self) -> None:
        """Let them drain, and hand over no more connections. A second time: hurry."""
        self._ending.set()
        for guest in self._seats:
            if guest is not None:
                guest.process.signal(signal.SIGTERM)

    async def close(self) -> None:
        """Wait until all have ended; in time that is no longer than a drain may take, else by force."""
        if not self._ending.is_set():
            self.end()
        http = self._settings.http
        if self._keepers:
            await asyncio.wait(self._keepers, timeout=http.drain_delay + http.drain_timeout + _FAREWELL)
        for guest in self._seats:
            if guest is not None:
                log.error(
                    "a process of the gateway did not end by itself", extra={"fields": {"pid": guest.process.pid}}
                )
                guest.process.signal(signal.SIGKILL)
        for task in (*self._keepers, *self._pages):
            task.cancel()
        await asyncio.gather(*self._keepers, *self._pages, return_exceptions=True)
        self._keepers.clear()

    # --- one seat ---

    async def _keep(self, seat: int, nursery: Nursery, admit: Admit) -> None:
        """Have a process in the seat until the end."""
        pause = _FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while not self._ending.is_set():
            try:
                guest = self._seats[seat] = await self._start(nursery, admit)
            except ChildProcessError as error:
                self._failed = True
                self._changed.set()
                log.error("%s: fewer processes serve until the gateway is restarted", error)
                return
            began = loop.time()
            try:
                await self._run(guest)
            finally:
                self._seats[seat] = None
                await guest.close()
                self._failed |= bool(guest.process.code)
                self._changed.set()
            if not guest.process.code or self._ending.is_set():
                continue
            fields = {"pid": guest.process.pid, "code": guest.process.code}
            log.error("a process of the gateway ended; another one takes its place", extra={"fields": fields})
            pause = min(2 * pause, _LONGEST_PAUSE) if loop.time() - began < _LONGEST_PAUSE else _FIRST_PAUSE
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause)

    async def _start(self, nursery: Nursery, admit: Admit) -> _Guest:
        control, theirs = pair()
        catalog, their_catalog = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            child = await nursery.bear(theirs, their_catalog)
        except BaseException:
            control.close()
            catalog.close()
            raise
        return _Guest(child, control, admit(catalog), self)

    async def _run(self, guest: _Guest) -> None:
        """From a process's start to its end."""
        watching = asyncio.create_task(self._watch(guest))
        try:
            if self._ending.is_set():  # since before `end` could see this process
                guest.process.signal(signal.SIGTERM)
            await guest.process.wait()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            if guest.process.code is None:
                guest.process.signal(signal.SIGKILL)
                await guest.process.wait()

    async def _watch(self, guest: _Guest) -> None:
        await guest.ready.wait()
        self._changed.set()
        await guest.watch()


_SERVE: Final = messages.encode(messages.Serve())
_SERVE_MOVED: Final = messages.encode(messages.Serve(moved=True))
