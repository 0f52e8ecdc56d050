"""One side of the connection between a host and a guest, spoken by hand."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, ClassVar

from catalog.lmdb_engine import wire


class Peer:
    """Speaks through a socket what a test says. Use `over`, and `close_all` at the end."""

    _open: ClassVar[list[Peer]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, messages: Any) -> None:
        self._reader, self._writer = reader, writer
        self._decode = wire.decoder(messages).decode

    @classmethod
    async def over(cls, sock: socket.socket, messages: Any) -> Peer:
        """`messages` is the union of what the other side says."""
        peer = cls(*await asyncio.open_unix_connection(sock=sock), messages)
        cls._open.append(peer)
        return peer

    @classmethod
    def close_all(cls) -> None:
        """End all connections."""
        while cls._open:
            cls._open.pop().close()

    def send(self, message: wire.FromGuest | wire.FromHost) -> None:
        body = wire.encoded(message)
        self.send_raw(len(body).to_bytes(4, "big") + body)

    def send_raw(self, data: bytes) -> None:
        self._writer.write(data)

    async def hear(self) -> Any:
        """The next message. Raises IncompleteReadError at the end."""
        async with asyncio.timeout(5):
            return self._decode(
                await self._reader.readexactly(int.from_bytes(await self._reader.readexactly(4), "big"))
            )

    async def hear_only(self, kind: type) -> Any:
        """The next message of this kind; others are passed over."""
        while not isinstance(message := await self.hear(), kind):
            pass
        return message

    async def ended(self) -> bool:
        """Whether the other side ends the connection soon, whatever it says before."""
        try:
            async with asyncio.timeout(5):
                while await self._reader.read(1 << 16):
                    pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self._writer.close()
