"""A client that costs as little as a socket can: for large bodies, where it must not be the limit."""

from __future__ import annotations

import concurrent.futures
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.signing import Endpoint, RequestSigner

RECEIVE = 1 << 20


class RequestFailed(RuntimeError):
    """The server answered with an error; the text is the status line and the start of the body."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class RawClient:
    """One keep-alive connection with pre-signed requests. Not thread-safe."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._signer = RequestSigner(endpoint)
        self._socket = socket.create_connection((endpoint.host, endpoint.port), timeout=300)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pending = b""

    def close(self) -> None:
        self._socket.close()

    def request(self, method: str, path: str, query: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """A whole small exchange. Raises RequestFailed on any status but 2xx."""
        self._socket.sendall(self._signer.head(method, path, query, length=len(body)) + body)
        status, headers = self._response_head()
        content = b"".join(bytes(piece) for piece in self._body(headers, method))
        if not 200 <= status < 300:
            raise RequestFailed(f"{method} {path}: {status} {content[:300]!r}")
        return Answer(status, headers, content)

    def put(self, path: str, body: bytes) -> None:
        """One small PUT. Raises RequestFailed."""
        self.request("PUT", path, body=body)

    def upload(self, path: str, block: memoryview, repeat: int) -> float:
        """PUT `block` × `repeat` as one object; seconds from the first byte sent to the answer's last byte."""
        head = self._signer.head("PUT", path, length=len(block) * repeat)
        started = time.perf_counter()
        self._socket.sendall(head)
        for _ in range(repeat):
            self._socket.sendall(block)
        status, headers = self._response_head()
        content = b"".join(bytes(piece) for piece in self._body(headers, "PUT"))
        seconds = time.perf_counter() - started
        if status != 200:
            raise RequestFailed(f"PUT {path}: {status} {content[:300]!r}")
        return seconds

    def download(self, path: str) -> tuple[float, int]:
        """GET and throw away; seconds and bytes."""
        started = time.perf_counter()
        self._socket.sendall(self._signer.head("GET", path))
        status, headers = self._response_head()
        if status != 200:
            raise RequestFailed(f"GET {path}: {status}")
        total = sum(len(piece) for piece in self._body(headers, "GET"))
        return time.perf_counter() - started, total

    def _response_head(self) -> tuple[int, dict[str, str]]:
        data = self._pending
        while b"\r\n\r\n" not in data:
            received = self._socket.recv(65536)
            if not received:
                raise RequestFailed("the server closed the connection")
            data += received
        head, self._pending = data.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        return int(lines[0].split(" ")[1]), headers

    def _body(self, headers: Mapping[str, str], method: str) -> Iterator[memoryview | bytes]:
        if method == "HEAD" or headers.get("content-length") == "0":
            return
        if headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunked()
            return
        left = int(headers.get("content-length", "0"))
        first, self._pending = self._pending[:left], self._pending[left:]
        left -= len(first)
        yield first
        buffer = memoryview(bytearray(RECEIVE))
        while left:
            count = self._socket.recv_into(buffer, min(RECEIVE, left))
            if not count:
                raise RequestFailed("the body ended early")
            left -= count
            yield buffer[:count]

    def _chunked(self) -> Iterator[bytes]:
        while True:
            while b"\r\n" not in self._pending:
                self._pending += self._socket.recv(RECEIVE)
            size_line, self._pending = self._pending.split(b"\r\n", 1)
            size = int(size_line.split(b";")[0], 16)
            while len(self._pending) < size + 2:
                self._pending += self._socket.recv(RECEIVE)
            chunk, self._pending = self._pending[:size], self._pending[size + 2 :]
            if not size:
                return
            yield chunk


def put_all(endpoint: Endpoint, paths: Sequence[str], body: bytes, *, connections: int = 16) -> None:
    """PUT `body` to every path once, over several connections. Raises RequestFailed."""

    def work(number: int) -> None:
        client = RawClient(endpoint)
        for path in paths[number::connections]:
            client.put(path, body)
        client.close()

    with concurrent.futures.ThreadPoolExecutor(connections) as pool:
        for done in [pool.submit(work, number) for number in range(connections)]:
            done.result()
