"""A source that a test tells how to behave: a real HTTP server that speaks S3, and lies where it is told to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import quote
from xml.sax.saxutils import escape

from aiohttp import web

from tests.harness.live_server import free_port

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse | None]]


@dataclass
class Thing:
    body: bytes
    etag: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.etag = self.etag or hashlib.md5(self.body).hexdigest()


def refusal(status: int, code: str) -> web.Response:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"
    return web.Response(status=status, text=body, content_type="application/xml")


class HostileSource:
    """Serves `things` as every bucket. `before` sees each request first and may answer it in its own way."""

    def __init__(self) -> None:
        self.things: dict[str, Thing] = {}
        self.before: Answer | None = None
        self.requests: list[str] = []
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._started = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> HostileSource:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def gets(self) -> list[str]:
        return [one.removeprefix("GET ") for one in self.requests if one.startswith("GET ") and "list-type" not in one]

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            runner = self._loop.run_until_complete(self._begin())
            self._loop.run_forever()
            self._loop.run_until_complete(runner.cleanup())
        finally:
            self._loop.close()

    async def _begin(self) -> web.ServerRunner:
        runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self._started.set()
        return runner

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        if self.before is not None:
            own = await self.before(request)
            if own is not None:
                return own
        if "list-type" in request.query:
            return self._list()
        key = request.path.removeprefix("/").partition("/")[2]
        thing = self.things.get(key)
        if thing is None:
            return refusal(404, "NoSuchKey")
        if request.headers.get("If-Match", f'"{thing.etag}"') != f'"{thing.etag}"':
            return refusal(412, "PreconditionFailed")
        return self.give(request, thing)

    @staticmethod
    def give(request: web.BaseRequest, thing: Thing) -> web.Response:
        """The object, or the range of it that was asked for."""
        headers = {"ETag": f'"{thing.etag}"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", **thing.headers}
        asked = request.headers.get("Range", "").removeprefix("bytes=")
        if not asked:
            return web.Response(body=thing.body, headers=headers)
        first, last = (int(text) for text in asked.split("-"))
        headers["Content-Range"] = f"bytes {first}-{last}/{len(thing.body)}"
        return web.Response(status=206, body=thing.body[first : last + 1], headers=headers)

    def _list(self) -> web.Response:
        return listing([(key, thing) for key, thing in sorted(self.things.items())])


def listing(things: list[tuple[str, Thing]], token: str = "") -> web.Response:
    """A page; with a token the listing goes on."""
    rows = "".join(
        f"<Contents><Key>{escape(quote(key))}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{thing.etag}&quot;</ETag><Size>{len(thing.body)}</Size></Contents>"
        for key, thing in things
    )
    following = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    truncated = "true" if token else "false"
    body = (
        f"<?xml version='1.0'?><ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{truncated}</IsTruncated>"
        f"{following}{rows}</ListBucketResult>"
    )
    return web.Response(text=body, content_type="application/xml")


def false_checksum(body: bytes) -> dict[str, str]:
    """A checksum header that is of something else than `body`."""
    return {"x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(body + b"!").digest()).decode()}
