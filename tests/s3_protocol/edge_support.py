"""An S3 edge in this process over small handlers that keep objects in a dict, and real clients for it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.client import Config
from botocore.credentials import Credentials

from core.access import Principal, PrincipalKind
from core.clock import SystemClock
from core.http.connection import ConnectionServer
from core.http.limits import KeyLimiter
from gateway.s3.checksums import Integrity, output_members
from gateway.s3.contract import Handler, S3Error, S3Request, S3Response, S3Settings
from gateway.s3.edge import S3Edge
from gateway.s3.signature.keys import derive
from gateway.s3.signature.verify import ChunkSeed

ACCESS_KEY = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
OWNER = "f" * 64


class OneKey:
    """A key directory with one key."""

    def __init__(self, access_key: str = ACCESS_KEY, secret: str = SECRET) -> None:
        self.principal = Principal(PrincipalKind.USER, OWNER, "tester", access_key)
        self.secret = secret

    def lookup(self, access_key_id: str) -> tuple[Principal, str] | None:
        return (self.principal, self.secret) if access_key_id == self.principal.access_key_id else None

    async def catch_up(self) -> None:
        """Nobody else makes keys."""


@dataclass
class Objects:
    """The handlers' memory, and what they were called for."""

    data: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    requests: list[S3Request] = field(default_factory=list)
    pulled: list[int] = field(default_factory=list)

    async def put(self, request: S3Request) -> S3Response:
        self.seen(request)
        if request.principal.kind is PrincipalKind.ANONYMOUS:
            raise S3Error("AccessDenied")
        integrity = Integrity(request.headers, request.body)
        data = bytearray()
        async for chunk in request.body.source():
            self.pulled.append(len(chunk))
            data += chunk
            for digest in integrity.digests:
                digest.update(chunk)
        outcome = integrity.finish(len(data))
        self.data[request.key] = bytes(data)
        return S3Response({"ETag": outcome.etag, **output_members(outcome.checksums, outcome.checksum_type)})

    async def get(self, request: S3Request) -> S3Response:
        self.seen(request)
        if request.key not in self.data:
            raise S3Error("NoSuchKey", fields={"Key": request.key})
        data = self.data[request.key]
        return S3Response({"ETag": "0" * 32, "ContentType": "binary/octet-stream"}, body=data)

    async def head(self, request: S3Request) -> S3Response:
        self.seen(request)
        if request.key not in self.data:
            raise S3Error("NoSuchKey")
        return S3Response({"ETag": "0" * 32, "ContentLength": len(self.data[request.key])})

    async def delete(self, request: S3Request) -> S3Response:
        self.seen(request)
        self.data.pop(request.key, None)
        return S3Response()

    async def document(self, request: S3Request) -> S3Response:
        self.seen(request)
        await request.document()
        return S3Response()

    async def echo(self, request: S3Request) -> S3Response:
        self.seen(request)
        return S3Response()

    def seen(self, request: S3Request) -> None:
        self.calls.append(request.operation)
        self.requests.append(request)


def handlers_of(objects: Objects) -> dict[str, Handler]:
    return {
        "PutObject": objects.put,
        "UploadPart": objects.put,
        "GetObject": objects.get,
        "HeadObject": objects.head,
        "DeleteObject": objects.delete,
        "DeleteBucket": objects.echo,
        "CreateBucket": objects.document,
        "DeleteObjects": objects.document,
        "CompleteMultipartUpload": objects.document,
        "PutObjectTagging": objects.document,
        "ListBuckets": objects.echo,
        "ListObjectsV2": objects.echo,
    }


@dataclass
class Running:
    edge: S3Edge
    objects: Objects
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def client(self, **config: Any) -> Any:
        """A boto3 client; to be used from a thread."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=config.pop("access_key", ACCESS_KEY),
            aws_secret_access_key=config.pop("secret", SECRET),
            region_name=config.pop("region", "us-east-1"),
            config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, **config),
        )

    async def raw(self, data: bytes, *, timeout: float = 5.0) -> bytes:
        """Send bytes on a new connection; everything the server says until it closes or is silent for a moment."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(data)
            return await read_answer(reader, timeout)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def read_answer(reader: asyncio.StreamReader, timeout: float = 5.0) -> bytes:
    """One answer with its body, by its Content-Length."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), timeout)
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return head + await asyncio.wait_for(reader.readexactly(int(value)), timeout)
    return head


@contextlib.asynccontextmanager
async def running(
    *,
    handlers: Mapping[str, Handler] | None = None,
    settings: S3Settings | None = None,
    limiter: KeyLimiter | None = None,
) -> AsyncIterator[Running]:
    objects = Objects()

    async def check(request: S3Request, action: str) -> None:
        if request.bucket == "missing":
            raise S3Error("NoSuchBucket", fields={"BucketName": request.bucket})
        if request.principal.kind is PrincipalKind.ANONYMOUS:
            raise S3Error("AccessDenied")

    edge = S3Edge(
        handlers if handlers is not None else handlers_of(objects),
        keys=OneKey(),
        check_bucket=check,
        settings=settings or S3Settings(),
        clock=SystemClock(),
        limiter=limiter,
    )
    server = ConnectionServer(
        edge, limit=0, access_log=None, auto_decompress=False, max_line_size=16384, lingering_time=0.2
    )
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    try:
        yield Running(edge, objects, host, port)
    finally:
        listener.close()
        await server.shutdown(1.0)


def amz_now() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


class _Signer(S3SigV4Auth):  # type: ignore[misc]
    """Signs with any value of x-amz-content-sha256."""

    def __init__(self, sha256: str) -> None:
        super().__init__(Credentials(ACCESS_KEY, SECRET), "s3", "us-east-1")
        self.sha256 = sha256

    def payload(self, request: AWSRequest) -> str:
        return self.sha256


def signed_head(
    edge: Running, method: str, target: str, headers: dict[str, str], sha256: str = "UNSIGNED-PAYLOAD"
) -> bytes:
    """A signed request's head for a raw socket; headers whose name starts with `!` are added after signing."""
    late = {name[1:]: value for name, value in headers.items() if name.startswith("!")}
    early = {name: value for name, value in headers.items() if not name.startswith("!")}
    request = AWSRequest(method=method, url=f"{edge.url}{target}", headers=early)
    _Signer(sha256).add_auth(request)
    lines = [f"{method} {target} HTTP/1.1", f"Host: {edge.host}:{edge.port}"]
    lines += [f"{name}: {value}" for name, value in {**dict(request.headers), **late}.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def seed_of(head: bytes) -> ChunkSeed:
    text = head.decode()
    signature = re.search(r"Signature=([0-9a-f]{64})", text)
    date = re.search(r"X-Amz-Date: (\S+)", text, re.IGNORECASE)
    assert signature is not None
    assert date is not None
    day = date[1][:8]
    return ChunkSeed(derive(SECRET, day, "us-east-1", "s3"), date[1], f"{day}/us-east-1/s3/aws4_request", signature[1])


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def code_of(answer: bytes) -> str:
    found = re.search(rb"<Code>([^<]+)</Code>", answer)
    return found[1].decode() if found else ""
