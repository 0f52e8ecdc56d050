"""Answers on the wire: one write for a head with a small body, chunk by chunk for a stream.

aiohttp's response classes cost more than the rest of a small request together, so the head is put together here; what
leaves still goes through aiohttp's writer, which keeps count and applies back-pressure.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from http import HTTPStatus

from aiohttp.http import StreamWriter

from core.buffers import Buffer
from core.http.connection import Request, Written

#: Bodies up to this many bytes leave in one write with their head.
ONE_WRITE = 64 << 10

_REASONS = {one.value: one.phrase for one in HTTPStatus} | {503: "Service Unavailable"}
_BODILESS = frozenset({204, 304})
_SPACED = str.maketrans("\r\n\0", "   ")


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
    if not "".join(headers.values()).isprintable():
        headers = {name: value.translate(_SPACED) for name, value in headers.items()}
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    announced = f"Content-Length: {length}\r\n" if length is not None and status not in _BODILESS else ""
    text = (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}\r\nServer: Atoll\r\nDate: {_http_now()}\r\n"
        f"x-amz-request-id: {request_id}\r\nx-amz-id-2: {host_id}\r\n{lines}{announced}"
        f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
    )
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


async def write_whole(request: Request, start: bytes, body: Buffer) -> int:
    """Write head and body; bytes written. Raises ConnectionError when the client is gone."""
    writer = request.out
    size = len(start) + len(body)
    if size <= ONE_WRITE and type(writer) is StreamWriter:
        writer._write(b"".join((start, body)))  # so little waits for nothing
    elif len(body) <= ONE_WRITE:
        await writer.write(b"".join((start, body)))
    else:
        await writer.write(start)
        await writer.write(body)
    return size


async def write_stream(
    request: Request, start: bytes, first: Buffer | None, rest: AsyncIterator[Buffer], length: int
) -> int:
    """Write head and stream; bytes of the body written, which are not `length` if the stream was wrong."""
    count = 0
    if first is None:
        await request.out.write(start)
        return 0
    count = len(first)
    await write_whole(request, start, first)
    write = request.out.write
    async for chunk in rest:
        count += len(chunk)
        if count > length:
            break
        await write(chunk)
    return count
