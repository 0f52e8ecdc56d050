"""Messages and connections between two processes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from gateway.wiring.channel import MOST, Channel, pair


class End:
    """One end that notes what comes."""

    def __init__(self, sock: socket.socket) -> None:
        self.messages: list[bytes] = []
        self.connections: list[socket.socket] = []
        self.ends = 0
        self.channel = Channel(sock, self._receive, self._ended)

    def _receive(self, message: bytes, connections: list[socket.socket]) -> None:
        self.messages.append(message)
        self.connections += connections

    def _ended(self) -> None:
        self.ends += 1


async def until(condition: Callable[[], object]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not in time")


async def test_messages_stay_apart_and_in_order() -> None:
    one, other = map(End, pair())
    sent = [bytes([number % 256]) * (1 + number * 977 % MOST) for number in range(300)]
    for message in sent:
        assert one.channel.send(message)
    await until(lambda: len(other.messages) == len(sent))
    assert other.messages == sent
    one.channel.close()
    await until(lambda: other.ends)
    assert (one.ends, other.ends) == (0, 1)
    other.channel.close()


async def test_a_connection_goes_over() -> None:
    one, other = map(End, pair())
    client, server = socket.socketpair()
    assert one.channel.send(b"yours", [server])
    await until(lambda: other.connections)
    assert server.fileno() < 0
    client.sendall(b"hello")
    assert other.connections[0].recv(5) == b"hello"
    for end in (client, other.connections[0]):
        end.close()
    one.channel.close()
    other.channel.close()


async def test_a_side_that_does_not_keep_up_gets_no_more() -> None:
    silent, theirs = pair()
    one = End(theirs)
    client, server = socket.socketpair()
    taken = 0
    while one.channel.send(b"x" * 1000):
        taken += 1
        assert taken < 10_000
    assert not one.channel.send(b"yours", [server])
    client.sendall(b"still")
    assert server.recv(5) == b"still"
    silent.close()
    await until(lambda: one.ends)
    assert not one.channel.send(b"x", [server])
    for end in (client, server):
        end.close()
