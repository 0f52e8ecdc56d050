"""Answers on the wire: one write for a head with a small body, chunk by chunk for a stream.

aiohttp's response classes cost more than the rest of a small request together, so the head is put together here; what
leaves still goes through aiohttp's writer, which keeps count and applies back-pressure.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import web

from core.buffers import Buffer

#: Bodies up to this many bytes leave in one write with their head.
ONE_WRITE = 64 << 10

_REASONS = {one.value: one.phrase for one in HTTPStatus} | {503: "Service Unavailable"}
_BODILESS = frozenset({204, 304})


class Written(web.StreamResponse):
    """What the server is told once an answer has left: nothing is to be written, and whether the connection stays."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self._stays = keep

    @property
    def keep_alive(self) -> bool | None:
        return self._stays

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: Buffer = b"") -> None:
        return None


STAYS = Written(True)
CLOSES = Written(False)

_date: tuple[int, str] = (0, "")


def _http_now() -> str:
    global _date  # noqa: PLW0603 - one text per second, whatever the load
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True))
    return _date[1]


def head(
    status: int, headers: Mapping[str, str], request_id: str, host_id: str, length: int | None, keep: bool
) -> bytes:
    """The head of an answer. `length` None leaves Content-Length out. Control characters in values become spaces, so
    no value can begin another header."""
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}\r\nServer: Atoll\r\nDate: {_http_now()}\r\n"
        f"x-amz-request-id: {request_id}\r\nx-amz-id-2: {host_id}\r\n"
    ]
    for name, value in headers.items():
        if not value.isprintable():
            value = "".join(" " if one in "\r\n\0" else one for one in value)
        lines.append(f"{name}: {value}\r\n")
    if length is not None and status not in _BODILESS:
        lines.append(f"Content-Length: {length}\r\n")
    lines.append("Connection: keep-alive\r\n\r\n" if keep else "Connection: close\r\n\r\n")
    text = "".join(lines)
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


async def write_whole(request: web.BaseRequest, start: bytes, body: Buffer) -> int:
    """Write head and body; bytes written. Raises ConnectionError when the client is gone."""
    writer = request.writer
    if not body:
        await writer.write(start)
    elif len(body) <= ONE_WRITE:
        await writer.write(b"".join((start, body)))
    else:
        await writer.write(start)
        await writer.write(body)
    return len(start) + len(body)


async def write_stream(
    request: web.BaseRequest, start: bytes, first: Buffer | None, rest: AsyncIterator[Buffer], length: int
) -> int:
    """Write head and stream; bytes of the body written, which are not `length` if the stream was wrong."""
    count = 0
    if first is None:
        await request.writer.write(start)
        return 0
    count = len(first)
    await write_whole(request, start, first)
    write = request.writer.write
    async for chunk in rest:
        count += len(chunk)
        if count > length:
            break
        await write(chunk)
    return count
