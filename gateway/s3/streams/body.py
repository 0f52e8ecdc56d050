"""A request's body as handlers see it: decoded, of the declared length, verified; read only when asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from hashlib import sha256

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_exceptions import HTTPException

from core.buffers import Buffer
from core.http.connection import BodyTimeout, Request
from gateway.s3.checksums import require_payload_hash
from gateway.s3.errors import S3Error
from gateway.s3.signature.payload import PayloadMode
from gateway.s3.signature.verify import ChunkSeed
from gateway.s3.streams.chunks import ChunkDecoder

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def declared_length(name: str, value: str) -> int:
    """A length header. Raises S3Error InvalidArgument for what is no length."""
    text = value.strip()
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise S3Error("InvalidArgument", fields={"ArgumentName": name, "ArgumentValue": value[:64]})
    return int(text)


class HttpBody:
    """RequestBody over an HTTP request."""

    __slots__ = ("_began", "_chunked", "_expects", "_payload_hash", "_request", "_seed", "_trailer", "announced",
                 "length", "limit", "received", "trailers")  # fmt: skip

    def __init__(self, request: Request, headers: Mapping[str, str], mode: PayloadMode, seed: ChunkSeed | None) -> None:
        """Reads nothing. Raises S3Error for lengths and trailers that make no sense."""
        self._request, self._seed = request, seed
        self._expects = "expect" in headers and headers["expect"].strip().lower() == "100-continue"
        self._began = False
        self.received = 0
        #: Most bytes that may come when no length was declared; the owner sets it.
        self.limit = 0
        self.trailers: Mapping[str, str] = {}
        self.announced: tuple[str, ...] = ()
        self._payload_hash = mode.sha256
        sent = headers.get("x-amz-decoded-content-length")
        decoded = None if sent is None else declared_length("x-amz-decoded-content-length", sent)
        # some clients frame the body but sign it otherwise; keeping the frames would damage the object
        self._chunked = mode.chunked or (
            decoded is not None and not mode.sha256 and "aws-chunked" in headers.get("content-encoding", "")
        )
        self._trailer = mode.trailer or (self._chunked and not mode.chunked)
        if self._chunked:
            if decoded is None:
                raise S3Error("MissingContentLength")
            self.length: int | None = decoded
            if self._trailer:
                names = headers.get("x-amz-trailer", "")
                self.announced = tuple(one for one in (part.strip().lower() for part in names.split(",")) if one)
        else:
            sent = headers.get("content-length")
            self.length = None if sent is None else declared_length("Content-Length", sent)

    def take_payload_hash(self) -> str:
        taken, self._payload_hash = self._payload_hash, ""
        return taken

    @property
    def awaits_continue(self) -> bool:
        """The client holds its body back until it is asked for, and was not."""
        return self._expects and not self._began

    def whole(self) -> bytes | None:
        """See RequestBody."""
        content = self._request.payload
        if self._chunked or self._expects or not content.is_eof() or content.exception() is not None:
            return None
        assert not self._began, "a body can be read once"
        self._began = True
        data = content.read_nowait()
        self.received += len(data)
        if self.length is not None and len(data) != self.length:
            raise _wrong_length(framed=False)
        if self.limit and len(data) > self.limit:
            raise _too_large(self.limit)
        if self._payload_hash:
            require_payload_hash(self._payload_hash, sha256(data).digest())
        return data

    async def source(self) -> AsyncIterator[Buffer]:
        """See RequestBody."""
        assert not self._began, "a body can be read once"
        self._began = True
        request = self._request
        # Also where nothing is to come: botocore before 1.43.77, so the AWS CLI, misreads the next answer on the
        # connection whose last request expected to be asked and wasn't, and waits for the rest of it until its timeout.
        if self._expects and request.start.version >= (1, 1) and (self.length == 0 or not request.payload.is_eof()):
            transport = request.transport
            if transport is not None:
                transport.write(_CONTINUE)
        decoder = None
        if self._chunked:
            decoder = ChunkDecoder(seed=self._seed, announced=self.announced, trailer_allowed=self._trailer)
        digest = sha256() if self._payload_hash else None
        expected, count = self.length, 0
        while received := await self._receive():
            for chunk in (received,) if decoder is None else decoder.feed(received):
                count += len(chunk)
                if expected is not None and count > expected:
                    raise _wrong_length(framed=self._chunked)
                if self.limit and count > self.limit:
                    raise _too_large(self.limit)
                if digest is not None:
                    digest.update(chunk)
                yield chunk
        if decoder is not None:
            decoder.close()
            self.trailers = decoder.trailers
        if expected is not None and count != expected:
            raise _wrong_length(framed=self._chunked)
        if digest is not None:
            require_payload_hash(self._payload_hash, digest.digest())

    async def _receive(self) -> bytes:
        """The next bytes of the client, none at their end."""
        content = self._request.payload
        # `readchunk` joins nothing but gives each HTTP chunk by itself, of which a client may send millions
        framed = "transfer-encoding" in self._request.start.headers
        try:
            while True:
                chunk = await content.readany() if framed else (await content.readchunk())[0]
                if chunk:
                    self.received += len(chunk)
                    return chunk
                if content.at_eof():
                    return b""
        except BodyTimeout:
            raise S3Error("RequestTimeout") from None
        except (
            web.RequestPayloadError,
            HttpProcessingError,
            HTTPException,
            ConnectionError,
            asyncio.IncompleteReadError,
        ):
            raise S3Error("IncompleteBody", "The request body terminated unexpectedly") from None


def _too_large(limit: int) -> S3Error:
    return S3Error("EntityTooLarge", fields={"MaxSizeAllowed": str(limit)})


def _wrong_length(*, framed: bool) -> S3Error:
    name = "x-amz-decoded-content-length" if framed else "Content-Length"
    return S3Error("IncompleteBody", f"You did not provide the number of bytes specified by the {name} HTTP header")
