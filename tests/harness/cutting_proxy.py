"""A TCP proxy on loopback that cuts connections where a test says: after so many bytes of either direction."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_CHUNK = 1 << 16


class CuttingProxy:
    """Forwards to a port of this machine. Use `cutting_proxy`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = {}
        self._left = {"sent": -1, "received": -1}
        self.port = 0
        #: While True, new connections are closed at once.
        self.refusing = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        #: Connections that were cut so far.
        self.cuts = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._connections)

    def cut_after(self, *, sent: int = -1, received: int = -1) -> None:
        """Cut every connection once so many more bytes of clients, or of the server, went through. Negative: never."""
        self._left = {"sent": sent, "received": received}

    def cut(self) -> None:
        """Cut all connections now."""
        self._left = {"sent": -1, "received": -1}
        for client, server in list(self._connections.values()):
            self.cuts += 1
            client.transport.abort()
            server.transport.abort()

    def stall(self) -> None:
        """Let nothing through, as a network that fails silently."""
        self._flowing.clear()

    def flow(self) -> None:
        """Undo `stall`."""
        self._flowing.set()

    async def close(self) -> None:
        self.flow()
        assert self._server is not None
        self._server.close()
        self.cut()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self.refusing:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._connections[task] = (writer, back)
        pumps = [asyncio.create_task(self._pump(reader, back, "sent"))]
        pumps.append(asyncio.create_task(self._pump(there, writer, "received")))
        try:
            with contextlib.suppress(asyncio.CancelledError):  # by `close`; asyncio's streams would complain
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._connections.pop(task, None)
            for end in (writer, back):
                with contextlib.suppress(OSError):
                    end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flowing.wait()
                left = self._left[direction]
                if left >= 0:
                    writer.write(data[:left])
                    if len(data) >= left:
                        with contextlib.suppress(OSError):
                            await writer.drain()
                        self.cut()
                        return
                    self._left[direction] = left - len(data)
                else:
                    writer.write(data)
                await writer.drain()


@asynccontextmanager
async def cutting_proxy(target: int) -> AsyncIterator[CuttingProxy]:
    """A running proxy before the port `target`."""
    proxy = CuttingProxy(target)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
