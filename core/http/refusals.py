"""Answers to what comes before any protocol, in S3's form."""

from __future__ import annotations

from typing import Final

from aiohttp import web


def _error_body(code: str, message: str) -> bytes:
    """An error document; arguments need no escaping."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
        f"<RequestId></RequestId></Error>"
    ).encode()


def error_response(status: int, code: str, message: str) -> web.Response:
    """A whole answer with an error document."""
    return web.Response(
        status=status, body=_error_body(code, message), headers={"Server": "Atoll", "Content-Type": "application/xml"}
    )


_SLOW_DOWN_BODY = _error_body("SlowDown", "Please reduce your request rate.")
#: To one connection too many, as bytes.
SLOW_DOWN: Final = (
    b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Type: application/xml\r\nContent-Length: "
    + str(len(_SLOW_DOWN_BODY)).encode()
    + b"\r\n\r\n"
    + _SLOW_DOWN_BODY
)
#: To a head that does not come to its end, as bytes.
REQUEST_TIMEOUT: Final = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
