"""Where the further processes of a gateway come from: a process that forks them.

It is forked from the gateway's own process when that has loaded the program and done nothing else: no thread runs and
no file is open that a child must not hold. So a guest is there in milliseconds, not after a second of loading, and
shares the memory of what was loaded. The nursery ends with the gateway; children notice that by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import traceback
from collections import deque
from collections.abc import Callable
from typing import Final, NoReturn

import msgspec

from core import crashpoints
from gateway.wiring.channel import Channel, pair

_MOST: Final = 1024  # bytes of a message
_SOCKETS: Final = 2
_PATIENCE: Final = 5.0  # seconds that the nursery may take to fork
_LAST_WORD: Final = 1.0  # seconds that it may take to tell how a child ended
_UNKNOWN: Final = -signal.SIGKILL  # how it ended when the nursery does not tell
_PR_SET_NAME: Final = 15
NURSERY, GUEST = "atoll-nursery", "atoll-guest"  # their names in a list of processes

#: What a child does with the two sockets that it is given; its exit code.
Life = Callable[[socket.socket, socket.socket], int]


class _Bear(msgspec.Struct, tag=1):
    """To the nursery, with two sockets: fork a child that has them."""


class _Born(msgspec.Struct, tag=2):
    """From the nursery, in the order in which children were asked for."""

    pid: int


class _Ended(msgspec.Struct, tag=3):
    """From the nursery, with what `os.waitstatus_to_exitcode` says."""

    pid: int
    code: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Born | _Ended).decode


class Child:
    """A process that the nursery forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._descriptor = -1
            self._gone()
        else:
            self._loop.add_reader(self._descriptor, self._gone)

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._ended.result() if self._ended.done() else None

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self._descriptor >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    async def wait(self) -> int:
        """Until it has ended; its exit code."""
        return await asyncio.shield(self._ended)

    def ended(self, code: int) -> None:
        """It has ended. Idempotent."""
        if not self._ended.done():
            self._ended.set_result(code)
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _gone(self) -> None:
        """It has ended, as the nursery is about to say, if it still can."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
        self._loop.call_later(_LAST_WORD, self.ended, _UNKNOWN)


class Nursery:
    """The gateway's side: made before anything else, `open` on an event loop, `close` once."""

    def __init__(self, life: Life) -> None:
        """Fork the nursery, whose children lead that life. No other thread may run."""
        ours, theirs = pair()
        gc.collect()
        gc.freeze()  # a child's collector would write to all objects, and so take the pages for itself
        self._pid = os.fork()
        if not self._pid:
            ours.close()
            _tend(theirs, life)
        theirs.close()
        self._socket = ours
        self._channel: Channel | None = None
        self._expected: deque[asyncio.Future[Child]] = deque()
        self._children: dict[int, Child] = {}

    def open(self) -> None:
        """Be used on the running event loop from now on. Idempotent."""
        if self._channel is None:
            self._channel = Channel(self._socket, self._receive, self._lost)

    async def bear(self, control: socket.socket, catalog: socket.socket) -> Child:
        """A new process, which is given the two sockets; they are closed here. Raises ChildProcessError when there is
        no nursery any more, or it does not answer."""
        assert self._channel is not None
        future: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._expected.append(future)
        if not self._channel.send(_encode(_Bear()), [control, catalog]):
            control.close()
            catalog.close()
            self._lost()
        try:
            return await asyncio.wait_for(asyncio.shield(future), _PATIENCE)
        except TimeoutError:
            raise ChildProcessError("the process that starts others does not answer") from None

    def close(self) -> None:
        """End the nursery, whatever state it is in. Children go on until they are told otherwise."""
        if self._channel is not None:
            self._channel.close()
        self._socket.close()
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def _receive(self, data: bytes, _: list[socket.socket]) -> None:
        message = _decode(data)
        if isinstance(message, _Born):
            child = self._children[message.pid] = Child(message.pid)
            self._expected.popleft().set_result(child)
        else:
            self._children.pop(message.pid).ended(message.code)

    def _lost(self) -> None:
        for future in self._expected:
            future.set_exception(ChildProcessError("the process that starts others is gone"))
        self._expected.clear()


def _tend(channel: socket.socket, life: Life) -> NoReturn:
    """Fork children when asked to, and tell how they end, until the gateway is gone."""
    try:
        crashpoints.disarm()  # a crash point is to end the gateway, and with it all
        # A terminal and a service manager send these to all. What is to end a child waits until it can hear it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        _call_me(NURSERY)
        poll = select.poll()
        poll.register(channel, select.POLLIN)
        children: dict[int, int] = {}  # pid by descriptor
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == channel.fileno():
                    pid = _bear(channel, life)
                    watched = os.pidfd_open(pid)
                    children[watched] = pid
                    poll.register(watched, select.POLLIN)
                    channel.send(_encode(_Born(pid)))
                else:
                    poll.unregister(descriptor)
                    os.close(descriptor)
                    pid = children.pop(descriptor)
                    _, status = os.waitpid(pid, 0)
                    channel.send(_encode(_Ended(pid, os.waitstatus_to_exitcode(status))))
    except OSError:
        os._exit(0)  # the gateway is gone
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _bear(channel: socket.socket, life: Life) -> int:
    """Fork a child as the gateway asks. Raises OSError when it is gone."""
    message, descriptors, _, _ = socket.recv_fds(channel, _MOST, _SOCKETS)
    if not message:
        raise BrokenPipeError
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    pid = os.fork()
    if pid:
        for one in sockets:
            one.close()
        return pid
    code = 1
    try:
        channel.close()
        _call_me(GUEST)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        code = life(*sockets)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _call_me(name: str) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode())
