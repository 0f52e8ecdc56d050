"""The S3 edge: from an HTTP request to a handler and back.

The order is the contract: route → 501 for what is not implemented → authenticate → limits → parse → handler (access,
then the body) → render. Nothing of the body is read before the handler asks for it.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import msgspec
from aiohttp import web

from core.buffers import Buffer
from core.clock import Clock
from core.crashpoints import reach
from core.http.connection import Request, is_last
from core.http.limits import KeyLimiter
from core.http.proxies import TrustedProxies
from core.logs import access, request_id
from gateway.s3 import answers
from gateway.s3.addressing import Addressing, parse_query, split_target
from gateway.s3.checksums import verify_document
from gateway.s3.contract import (
    BucketCheck,
    Handler,
    KeyDirectory,
    RequestObserver,
    S3Error,
    S3Request,
    S3Response,
    S3Settings,
)
from gateway.s3.documents import DocumentParser
from gateway.s3.errors import RETRY_AFTER, map_engine_error
from gateway.s3.model import Level, Operation, ServiceModel
from gateway.s3.parsing import RequestParser
from gateway.s3.rendering import Renderer, render_error
from gateway.s3.routing import Router
from gateway.s3.signature.credential import SIGNING_MEMBERS
from gateway.s3.signature.verify import Authenticator, SignedParts
from gateway.s3.streams.body import HttpBody
from gateway.s3.unset import unset_handlers

log = logging.getLogger("atoll.s3")
access_log = logging.getLogger("atoll.access")

# An unread rest of a body up to this size is worth reading to keep the connection.
_DRAIN = 256 << 10
# Documents above this size are parsed in a thread.
_INLINE_DOCUMENT = 64 << 10
_XML = "application/xml"
_READS = frozenset({"GET", "HEAD"})  # requests that commit nothing
_WHOLE = (bytes, bytearray, memoryview)  # bodies that aren't streams
_IDS_AT_ONCE = 512  # of requests, drawn with one system call


class _Compiled:
    """Everything one implemented operation needs."""

    __slots__ = ("document", "handler", "operation", "parser", "renderer", "streams_in")

    def __init__(self, operation: Operation, handler: Handler) -> None:
        self.operation, self.handler = operation, handler
        self.parser = RequestParser(operation)
        self.renderer = Renderer(operation)
        self.streams_in = operation.streams_in
        payload = operation.input.members[operation.payload] if operation.payload else None
        self.document = DocumentParser(operation) if payload and payload.shape.kind == "structure" else None


class _Call(msgspec.Struct):
    """One request on its way through; what is known of it so far."""

    http: Request
    request_id: str
    host_id: str
    keep: bool
    operation: str = ""
    status: int = 0
    code: str = ""
    sent: int = 0
    body: HttpBody | None = None
    headers: Mapping[str, str] = {}


class S3Edge:
    """The request handler of the S3 endpoint, for aiohttp's low-level server (with `auto_decompress=False`)."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        keys: KeyDirectory,
        check_bucket: BucketCheck,
        settings: S3Settings,
        clock: Clock,
        proxies: TrustedProxies | None = None,
        limiter: KeyLimiter | None = None,
        observe: RequestObserver | None = None,
        model: ServiceModel | None = None,
    ) -> None:
        """`handlers` by operation name. `limiter` bounds the requests under way per access key (per address for
        anonymous ones). Raises ValueError for a handler of an operation that the model does not have."""
        model = model or ServiceModel.load()
        unknown = sorted(set(handlers) - set(model.operations))
        if unknown:
            raise ValueError(f"no such operations: {', '.join(unknown)}")
        every = {**unset_handlers(check_bucket), **handlers}
        self._compiled = {name: _Compiled(model.operations[name], handler) for name, handler in every.items()}
        self._router = Router(model)
        self._addressing = Addressing(settings.base_domains)
        self._keys = keys
        self._authenticator = Authenticator(keys, clock, region=settings.region, skew=settings.clock_skew)
        self._settings = settings
        self._proxies = proxies or TrustedProxies(())
        self._limiter = limiter
        self._observe = observe
        self._request_ids = _request_ids()
        self._host_id = base64.b64encode(os.urandom(36)).decode()

    async def __call__(self, request: Request) -> web.StreamResponse:
        """Answer one request. Never raises but CancelledError."""
        started = time.perf_counter()
        call = _Call(request, next(self._request_ids), self._host_id, not request.start.should_close)
        request_id.set(call.request_id)
        try:
            try:
                await self._serve(call)
            except ConnectionError:
                call.keep, call.status, call.code = False, call.status or 499, call.code or "ClientGone"
            except asyncio.CancelledError:
                raise
            except Exception as error:
                await self._refuse(call, error)
        except ConnectionError:
            call.keep = False
        finally:
            if self._observe is not None:
                received = call.body.received if call.body is not None else 0
                self._observe(call.operation, call.status, time.perf_counter() - started, received, call.sent)
        if access_log.isEnabledFor(logging.INFO):
            self._log(call, started)
        return answers.STAYS if call.keep else answers.CLOSES

    async def _serve(self, call: _Call) -> None:
        http = call.http
        headers = call.headers = _lower(http)
        if "upgrade" in headers:
            call.keep = False  # not taken; what follows on the connection might be meant for the other protocol
        if "transfer-encoding" in headers:
            _require_plain_chunks(headers["transfer-encoding"])
        raw_path, raw_query = split_target(http.start.path)
        level, bucket, key = self._addressing.resolve(headers.get("host", ""), raw_path)
        query = parse_query(raw_query) if raw_query else {}
        # Only signatures of version 2 cover it.
        host_bucket = self._addressing.bucket_of_host(headers.get("host", "")) if "AWSAccessKeyId" in query else ""
        parts = SignedParts(http.start.method, raw_path, raw_query, query, headers, host_bucket)
        if "X-Amz-Signature" in query:
            headers = call.headers = _with_hoisted(headers, query)
        compiled = self._route(call, level, raw_path, query, headers)
        try:
            identity = self._authenticator.authenticate(parts)
        except S3Error as error:
            if error.code != "InvalidAccessKeyId":
                raise
            await self._keys.catch_up()
            identity = self._authenticator.authenticate(parts)
        peer = self._proxies.peer(http)
        params = compiled.parser.parse(bucket, key, query, headers)
        body = call.body = HttpBody(http, headers, identity.payload, identity.seed)
        if compiled.streams_in:
            self._check_size(body, headers)
        request = S3Request(
            operation=call.operation,
            params=params,
            body=body,
            principal=identity.principal,
            request_id=call.request_id,
            bucket=bucket,
            key=key,
            secure=peer.secure,
            source_ip=peer.ip,
            http=http,
            headers=headers,
            read_document=self._read_document,
        )
        limiter = self._limiter
        holder = identity.principal.access_key_id or peer.ip
        if limiter is not None and not limiter.enter(holder):
            raise S3Error("SlowDown", headers=RETRY_AFTER)
        try:
            await self._answer(call, compiled.renderer, await compiled.handler(request), params)
        finally:
            if limiter is not None:
                limiter.leave(holder)

    def _route(
        self, call: _Call, level: Level, raw_path: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> _Compiled:
        method = call.http.start.method
        if method == "OPTIONS":
            raise _preflight(headers)
        if method == "POST" and level is Level.BUCKET and headers.get("content-type", "").startswith("multipart/form-"):
            raise S3Error("NotImplemented", "Uploads by browser forms are not implemented.")
        operation = self._router.route(method, level, raw_path, query, headers)
        call.operation = operation.name
        compiled = self._compiled.get(operation.name)
        if compiled is None:
            raise S3Error(
                "NotImplemented",
                f"The operation {operation.name} is not implemented.",
                fields={"Header": operation.name},
            )
        return compiled

    def _check_size(self, body: HttpBody, headers: Mapping[str, str]) -> None:
        if "content-length" not in headers and "transfer-encoding" not in headers:
            raise S3Error("MissingContentLength")
        limit = self._settings.max_object_size
        if body.length is not None and body.length > limit:
            raise S3Error("EntityTooLarge", fields={"ProposedSize": str(body.length), "MaxSizeAllowed": str(limit)})
        body.limit = limit

    async def _read_document(self, request: S3Request) -> dict[str, Any]:
        parser = self._compiled[request.operation].document
        assert parser is not None, f"{request.operation} has no document"
        if request.body.length is not None and request.body.length > parser.limit:
            raise S3Error("MaxMessageLengthExceeded", fields={"MaxMessageLengthBytes": str(parser.limit)})
        data = bytearray()
        async for chunk in request.body.source():
            data += chunk
            if len(data) > parser.limit:
                raise S3Error("MaxMessageLengthExceeded", fields={"MaxMessageLengthBytes": str(parser.limit)})
        headers = request.headers
        if request.operation == "CompleteMultipartUpload":
            # its checksum headers speak of the object, not of this document
            headers = {"content-md5": headers["content-md5"]} if "content-md5" in headers else {}
        verify_document(headers, request.body, bytes(data))
        if not data:
            if parser.required:
                raise S3Error("MissingRequestBodyError")
            return {}
        if len(data) > _INLINE_DOCUMENT:
            value = await asyncio.to_thread(parser.parse, data)
        else:
            value = parser.parse(data)
        request.params[parser.member] = value
        return value

    async def _answer(self, call: _Call, renderer: Renderer, response: S3Response, params: Mapping[str, Any]) -> None:
        body = response.body
        try:
            output = response.output
            status = response.status or renderer.status
            headers = renderer.headers(output) if output else {}
            if body is None:
                document = renderer.document(output, url_encoded=params.get("EncodingType") == "url")
                if document is not None and status == renderer.status:
                    headers["Content-Type"] = _XML
                    body = document
            if response.headers:
                headers.update(response.headers)
            announced = headers.pop("Content-Length", None)
            call.status = status
            method = call.http.start.method
            if method not in _READS:
                reach("before-reply")
            length = response.length
            if length is None:
                length = int(announced) if announced is not None else 0
            if body is None:
                call.sent = await answers.write_whole(call.http, self._head(call, status, headers, length), b"")
            elif isinstance(body, _WHOLE):
                start = self._head(call, status, headers, len(body))
                call.sent = await answers.write_whole(call.http, start, b"" if method == "HEAD" else body)
            else:
                await self._stream(call, status, headers, body, length, method == "HEAD")
        finally:
            if not isinstance(body, _WHOLE) and (close := getattr(body, "aclose", None)) is not None:
                await close()

    async def _stream(
        self,
        call: _Call,
        status: int,
        headers: Mapping[str, str],
        body: AsyncIterator[Buffer],
        length: int,
        head_only: bool,
    ) -> None:
        # the first bytes before the head: what can't be read at all gets an honest status
        first = None if head_only else await anext(body, None)
        start = self._head(call, status, headers, length)
        try:
            count = await answers.write_stream(call.http, start, first, body, length)
        except ConnectionError:
            raise
        except Exception as error:
            call.keep, call.code = False, "InternalError"
            log.exception("answer broken off", exc_info=error, extra={"fields": {"operation": call.operation}})
            self._abort(call)
            return
        call.sent = len(start) + count
        if count != length and not head_only:
            call.keep, call.code = False, "InternalError"
            log.error("answer of another length", extra={"fields": {"length": length, "written": count}})
            self._abort(call)

    @staticmethod
    def _abort(call: _Call) -> None:
        # a clean end would let the client take a part for the whole
        transport = call.http.transport
        if transport is not None:
            transport.abort()

    def _head(self, call: _Call, status: int, headers: Mapping[str, str], length: int | None) -> bytes:
        content = call.http.payload
        if call.keep and (is_last(call.http) or (not content.is_eof() and not self._worth_draining(call))):
            call.keep = False
        return answers.head(status, headers, call.request_id, call.host_id, length, call.keep)

    @staticmethod
    def _worth_draining(call: _Call) -> bool:
        body = call.body
        declared = call.headers.get("content-length", "")
        if (body is not None and body.awaits_continue) or call.headers.get("expect"):
            return body is not None and not body.awaits_continue and declared.isdigit() and int(declared) <= _DRAIN
        return declared.isdigit() and int(declared) - (body.received if body is not None else 0) <= _DRAIN

    async def _refuse(self, call: _Call, error: Exception) -> None:
        """Answer with an error, unless an answer has begun."""
        refusal = error if isinstance(error, S3Error) else map_engine_error(error)
        if refusal is None:
            log.exception(
                "request failed",
                exc_info=error,
                extra={"fields": {"operation": call.operation}},
            )
            refusal = S3Error("InternalError")
        call.status, call.code = refusal.status, refusal.code
        if refusal.code == "RequestTimeout":
            call.keep = False
        document = b""
        headers: dict[str, str] = dict(refusal.headers)
        if call.http.start.method != "HEAD" and refusal.status != 304:
            path = call.http.start.path.partition("?")[0]
            document = render_error(refusal.code, refusal.message, refusal.fields, path, call.request_id, call.host_id)
            headers["Content-Type"] = _XML
        start = self._head(call, refusal.status, headers, len(document))
        call.sent = await answers.write_whole(call.http, start, document)

    def _log(self, call: _Call, started: float) -> None:
        peer = self._proxies.peer(call.http)
        access(
            {
                "operation": call.operation,
                "method": call.http.start.method,
                "path": call.http.start.path.partition("?")[0],
                "remote": peer.ip,
                "secure": peer.secure,
                "status": call.status,
                "code": call.code,
                "sent": call.sent,
                "ms": round((time.perf_counter() - started) * 1000, 3),
            }
        )


def _request_ids() -> Iterator[str]:
    while True:
        pool = os.urandom(8 * _IDS_AT_ONCE).hex().upper()
        for start in range(0, len(pool), 16):
            yield pool[start : start + 16]


def _lower(http: Request) -> dict[str, str]:
    given = http.start.headers
    headers = {name.lower(): value for name, value in given.items()}
    if len(headers) != len(given):  # some are repeated
        headers = {name: ",".join(given.getall(name)) for name in headers}
    return headers


def _with_hoisted(headers: Mapping[str, str], query: Mapping[str, str]) -> dict[str, str]:
    """Headers with the x-amz-* ones that the author of a presigned URL put into its query."""
    hoisted = {
        lower: value
        for name, value in query.items()
        if (lower := name.lower()).startswith("x-amz-") and lower not in SIGNING_MEMBERS
    }
    return {**hoisted, **headers} if hoisted else dict(headers)


def _require_plain_chunks(codings: str) -> None:
    """The server undoes `chunked` and no other transfer coding: its bytes would be stored as they travelled."""
    if codings.strip().lower() != "chunked":
        raise S3Error("NotImplemented", fields={"Header": "Transfer-Encoding"})


def _preflight(headers: Mapping[str, str]) -> S3Error:
    if "origin" not in headers:
        return S3Error("BadRequest", "Insufficient information. Origin request header needed.")
    if "access-control-request-method" not in headers:
        return S3Error("BadRequest", "Invalid Access-Control-Request-Method: null")
    return S3Error(
        "AccessForbidden",
        fields={"Method": headers["access-control-request-method"], "ResourceType": "BUCKET"},
    )
