"""Requests byte by byte: signed heads, and whatever is to be sent behind them."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from gateway.s3.signature.keys import derive
from gateway.s3.signature.verify import ChunkSeed
from tests.harness.live_server import REGION, ROOT_KEY_ID, ROOT_SECRET


@dataclass(frozen=True)
class Who:
    access_key: str
    secret: str
    canonical_id: str = ""


ROOT = Who(ROOT_KEY_ID, ROOT_SECRET)
#: Another user, who owns nothing unless a test makes it.
USER = Who("AKIASTRANGER00000001", "a/stranger's+secret/00000000000000000001", "5" * 64)

UNSIGNED = "UNSIGNED-PAYLOAD"
UNSIGNED_CHUNKS = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[^\r\n]*\r\n")
_CODE = re.compile(rb"<Code>([^<]+)</Code>")


class _Signer(S3SigV4Auth):  # type: ignore[misc]
    def __init__(self, who: Who, sha256: str) -> None:
        super().__init__(Credentials(who.access_key, who.secret), "s3", REGION)
        self._sha256 = sha256

    def payload(self, request: AWSRequest) -> str:
        return self._sha256


@dataclass(frozen=True)
class Heard:
    """All that a server said on one connection, and whether it closed it."""

    data: bytes
    closed: bool

    @property
    def statuses(self) -> list[int]:
        return [int(one) for one in _STATUS.findall(self.data)]

    @property
    def status(self) -> int:
        """Of the only answer."""
        (one,) = self.statuses
        return one

    @property
    def code(self) -> str:
        found = _CODE.search(self.data)
        return found[1].decode() if found else ""

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]


class Wire:
    """Raw connections to a server on loopback."""

    def __init__(self, port: int) -> None:
        self.host, self.port = "127.0.0.1", port

    def head(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        late: Sequence[tuple[str, str]] = (),
        *,
        who: Who | None = ROOT,
        sha256: str = UNSIGNED,
        version: str = "HTTP/1.1",
    ) -> bytes:
        """A request's head. `headers` are signed, `late` ones are not; nobody signs where `who` is None."""
        sent = dict(headers or {})
        if who is not None:
            request = AWSRequest(method=method, url=f"http://{self.host}:{self.port}{target}", headers=sent)
            _Signer(who, sha256).add_auth(request)
            sent = dict(request.headers.items())
        lines = [f"{method} {target} {version}", f"Host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in [*sent.items(), *late]]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def connect(self, timeout: float = 10.0) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout)

    def say(self, data: bytes, *, answers: int = 1, timeout: float = 10.0, finish: bool = False) -> Heard:
        """Send `data` on a new connection and hear `answers` whole answers, or all until the server closes.

        `finish` ends our direction of the connection after the data.
        """
        with self.connect(timeout) as connection:
            with contextlib.suppress(ConnectionError):  # a refusal may come before all was sent
                connection.sendall(data)
                if finish:
                    connection.shutdown(socket.SHUT_WR)
            return hear(connection, answers, head_only=data.startswith(b"HEAD "))

    def one(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        who: Who | None = ROOT,
    ) -> Heard:
        """One ordinary request, its Content-Length as it should be."""
        late = [("Content-Length", str(len(body)))] if body or method in ("PUT", "POST") else []
        return self.say(self.head(method, target, headers, late, who=who) + body)


def hear(connection: socket.socket, answers: int = 1, *, head_only: bool = False) -> Heard:
    """Read from an open connection; see `Wire.say`."""
    data = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        while not whole(data, answers, head_only):
            piece = connection.recv(1 << 16)
            if not piece:
                return Heard(data, True)
            data += piece
        # an answer that announces the end, or is of the version that knows no other, is followed by it
        if b"connection: close" in data.lower() or data.startswith(b"HTTP/1.0"):
            while piece := connection.recv(1 << 16):
                data += piece
            return Heard(data, True)
        return Heard(data, False)
    return Heard(data, True)


def whole(data: bytes, answers: int, head_only: bool) -> bool:
    """Whether `data` holds that many answers with their bodies."""
    for _ in range(answers):
        head, separator, data = data.partition(b"\r\n\r\n")
        if not separator:
            return False
        found = re.search(rb"(?i)content-length: (\d+)", head)
        length = int(found[1]) if found and not head_only else 0
        if len(data) < length:
            return False
        data = data[length:]
    return True


def seed_of(head: bytes, who: Who = ROOT) -> ChunkSeed:
    """Where the chain of chunk signatures behind a signed head starts."""
    text = head.decode()
    signature = re.search(r"Signature=([0-9a-f]{64})", text)
    date = re.search(r"X-Amz-Date: (\S+)", text, re.IGNORECASE)
    assert signature is not None
    assert date is not None
    day = date[1][:8]
    scope = f"{day}/{REGION}/s3/aws4_request"
    return ChunkSeed(derive(who.secret, day, REGION, "s3"), date[1], scope, signature[1])
