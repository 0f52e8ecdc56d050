"""The source: any S3 endpoint, asked by as few operations as every implementation has.

ListObjectsV2, HeadObject, GetObject and GetObjectTagging over aiohttp, signed and parsed by botocore (from Amazon's
model, as our own edge is). Nothing that a source says is trusted: redirects are not followed, answers are bounded,
lengths are counted, and each answer ends in a value or in one error of `gateway.migrate.errors`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote_plus, urlsplit

import aiohttp
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import ResponseParserError, create_parser
from yarl import URL

from gateway.migrate.errors import (
    MigrationRefused,
    SourceChanged,
    SourceDenied,
    SourceDown,
    SourceError,
    SourceGone,
    SourceRefused,
    SourceWrong,
)
from gateway.migrate.layout import Entry

#: Bytes that a document (a page of a listing, a set of tags, an error) may have.
MAX_DOCUMENT = 16 << 20
PAGE = 1000
_CONNECT_TIMEOUT = 10.0
_SILENCE = 30.0  # seconds without a byte
_CONNECTIONS = 64

#: Error codes that concern every request alike.
_HOPELESS = frozenset(
    {
        "AccountProblem",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidBucketName",
        "InvalidSecurity",
        "InvalidToken",
        "NoSuchBucket",
        "NotSignedUp",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_NETWORK = (aiohttp.ClientError, TimeoutError, OSError)


@dataclass(frozen=True, slots=True)
class Source:
    """A bucket elsewhere. Secrets are no part of its text form."""

    url: str
    bucket: str
    region: str = "us-east-1"
    virtual_host: bool = False
    access_key_id: str = ""
    secret: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Found:
    """The headers of an object's answer. `length` is of this answer's body, `size` of the whole object."""

    etag: str
    size: int
    length: int
    modified_us: int
    headers: Mapping[str, str]  # lower-case names
    offset: int | None = None  # where this answer's bytes begin in the object; None when the source doesn't tell
    part_count: int = 0  # of a part that was asked for; 0 when the source doesn't tell


@dataclass(frozen=True, slots=True)
class Page:
    entries: list[Entry]
    token: str  # "" at the end


def check_source(source: Source) -> None:
    """Raises MigrationRefused for an address that can't be one."""
    parts = urlsplit(source.url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise MigrationRefused("the source must be http://HOST[:PORT] or https://HOST[:PORT]")
    if not source.bucket or "/" in source.bucket:
        raise MigrationRefused("name the source's bucket")
    if bool(source.access_key_id) != bool(source.secret):
        raise MigrationRefused("access key id and secret key belong together")


class SourceClient:
    """Asks one source. `open` it inside the loop that uses it, `close` it at the end."""

    def __init__(self, source: Source) -> None:
        check_source(source)
        self.source = source
        parts = urlsplit(source.url)
        host, root = parts.netloc, parts.path.rstrip("/")
        if source.virtual_host:
            self._base = f"{parts.scheme}://{source.bucket}.{host}{root}"
        else:
            self._base = f"{parts.scheme}://{host}{root}/{quote(source.bucket, safe='')}"
        credentials = Credentials(source.access_key_id, source.secret, source.session_token or None)
        self._signer = S3SigV4Auth(credentials, "s3", source.region) if source.access_key_id else None
        self._session: aiohttp.ClientSession | None = None
        self._shapes = _shapes()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def list_page(self, prefix: str, token: str, *, limit: int = PAGE) -> Page:
        """A page of the listing. Raises SourceDown, SourceDenied, SourceRefused, SourceWrong."""
        query = {"list-type": "2", "max-keys": str(limit), "encoding-type": "url"}
        if prefix:
            query["prefix"] = prefix
        if token:
            query["continuation-token"] = token
        async with self._ask("GET", None, query) as response:
            fields = self._parse("ListObjectsV2", await _document(response))
        if "IsTruncated" not in fields:  # another document, which the parser takes for an empty listing
            raise SourceWrong("the source's answer to ListObjectsV2 is no listing")
        encoded = fields.get("EncodingType") == "url"
        entries = [_entry(one, encoded) for one in fields.get("Contents") or ()]
        following = str(fields.get("NextContinuationToken") or "") if fields.get("IsTruncated") else ""
        if fields.get("IsTruncated") and not following:
            raise SourceWrong("the source's listing is cut off but does not tell how to go on")
        return Page(entries, following)

    async def probe(self, prefix: str) -> None:
        """Find out whether the source answers at all. Raises as `list_page`."""
        await self.list_page(prefix, "", limit=1)

    async def head(self, key: str, *, part: int = 0) -> Found:
        """The object's headers, or those of one of its parts. Raises SourceGone and the others."""
        query = {"partNumber": str(part)} if part else {}
        async with self._ask("HEAD", key, query, {"x-amz-checksum-mode": "ENABLED"}) as response:
            return _found(response)

    @asynccontextmanager
    async def get(
        self, key: str, *, etag: str = "", offset: int = 0, length: int | None = None, part: int = 0
    ) -> AsyncIterator[tuple[Found, AsyncIterator[bytes]]]:
        """The object's bytes, of that very ETag if one is given: `length` of them from `offset`, or those of a part.

        The iterator gives exactly the announced number of bytes or raises SourceDown. Raises SourceGone, SourceChanged,
        SourceDenied, SourceDown, SourceRefused, SourceWrong (a range that was not heeded).
        """
        headers = {"x-amz-checksum-mode": "ENABLED"}
        if etag:
            headers["if-match"] = f'"{etag}"'
        if length is not None:
            headers["range"] = f"bytes={offset}-{offset + length - 1}"
        query = {"partNumber": str(part)} if part else {}
        async with self._ask("GET", key, query, headers) as response:
            found = _found(response)
            if etag and found.etag != etag:
                raise SourceChanged(f"the source gave another object ({found.etag}) than the one asked for ({etag})")
            if length is not None and (response.status != 206 or found.length != length):
                raise SourceWrong("the source did not heed a range")
            yield found, _exactly(response, found.length)

    async def tags(self, key: str) -> tuple[tuple[str, str], ...]:
        async with self._ask("GET", key, {"tagging": ""}) as response:
            fields = self._parse("GetObjectTagging", await _document(response))
        return tuple((str(one["Key"]), str(one["Value"])) for one in fields.get("TagSet") or ())

    @asynccontextmanager
    async def _ask(
        self, method: str, key: str | None, query: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        path = "" if key is None else "/" + quote(key, safe="/-_.~")
        if not path and urlsplit(self._base).path == "":
            path = "/"
        pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query.items())
        text = "&".join(f"{name}={value}" for name, value in pairs)
        request = AWSRequest(method, self._base + path + (f"?{text}" if text else ""), headers=dict(headers or {}))
        if self._signer is not None:
            self._signer.add_auth(request)
        signed = {name: str(value) for name, value in request.headers.items()}
        signed["Accept-Encoding"] = "identity"
        try:
            async with self._opened().request(
                method, URL(request.url, encoded=True), headers=signed, allow_redirects=False
            ) as response:
                if response.status >= 300:
                    raise await self._refusal(response, key)
                yield response
        except _NETWORK as error:
            raise SourceDown(f"the source does not answer: {type(error).__name__} {error}".rstrip()) from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=_SILENCE)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                timeout=timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=1 << 20,
                max_line_size=16384,
                max_field_size=16384,
            )
        return self._session

    async def _refusal(self, response: aiohttp.ClientResponse, key: str | None) -> SourceError:
        """What an answer that is none means."""
        status = response.status
        if status < 400 and status != 304:
            place = urlsplit(response.headers.get("location", "")).netloc or "another place"
            return SourceRefused(
                f"the source redirects to {place[:200]}: name the endpoint and region that the bucket is really at"
            )
        code = await self._error_code(response)
        said = f"the source said {status} {code}".rstrip()
        if status in (429, 408) or status >= 500 or code in ("SlowDown", "RequestTimeout"):
            return SourceDown(said)
        if code in _HOPELESS or status == 401:
            return SourceRefused(said)
        if status == 412:
            return SourceChanged(said)
        if status == 404:
            return SourceRefused(said) if key is None else SourceGone(said)
        if status == 403:
            return SourceDenied(said)
        return SourceWrong(said)

    async def _error_code(self, response: aiohttp.ClientResponse) -> str:
        data = await _document(response)
        if not data:
            return ""
        answer = {"status_code": response.status, "headers": {}, "body": data}
        try:
            parsed = self._shapes.parser.parse(answer, None)
        except (ResponseParserError, ValueError, KeyError, TypeError):
            return ""
        code = str((parsed.get("Error") or {}).get("Code") or "")
        return code if code.isalnum() and len(code) <= 64 else ""

    def _parse(self, operation: str, data: bytes) -> dict[str, Any]:
        shape = self._shapes.model.operation_model(operation).output_shape
        try:
            fields = self._shapes.parser.parse({"status_code": 200, "headers": {}, "body": data}, shape)
        except (ResponseParserError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceWrong(f"the source's answer to {operation} is no document of S3") from error
        return dict(fields)


@dataclass(frozen=True, slots=True)
class _Shapes:
    model: Any
    parser: Any


_LOADED: list[_Shapes] = []


def _shapes() -> _Shapes:
    """Amazon's model, read when the first source is asked and kept: it takes a moment."""
    if not _LOADED:
        _LOADED.append(_Shapes(ServiceModel(Loader().load_service_model("s3", "service-2")), create_parser("rest-xml")))
    return _LOADED[0]


def _entry(fields: Mapping[str, Any], encoded: bool) -> Entry:
    try:
        key = str(fields["Key"])
        size = int(fields["Size"])
        if size < 0:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise SourceWrong("the source lists an object without key or size") from None
    modified = fields.get("LastModified")
    return Entry(
        key=unquote_plus(key, errors="surrogateescape") if encoded else key,
        size=size,
        etag=bare(str(fields.get("ETag") or "")),
        modified_us=_microseconds(modified) if isinstance(modified, datetime) else 0,
        storage_class=str(fields.get("StorageClass") or "STANDARD"),
    )


def bare(etag: str) -> str:
    """An ETag without quotes."""
    return etag.removeprefix("W/").strip('"')


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _found(response: aiohttp.ClientResponse) -> Found:
    headers = {name.lower(): value for name, value in response.headers.items()}
    try:
        length = int(headers["content-length"])
        span, _, total = headers.get("content-range", "").removeprefix("bytes ").partition("/")
        size = int(total) if total else length
        offset = int(span.partition("-")[0]) if span else None if response.status == 206 else 0
        parts = int(headers.get("x-amz-mp-parts-count", "0"))
    except (KeyError, ValueError):
        raise SourceWrong("the source does not tell how long the object is") from None
    try:
        modified = _microseconds(parsedate_to_datetime(headers.get("last-modified", "")))
    except (TypeError, ValueError):
        modified = 0
    return Found(bare(headers.get("etag", "")), size, length, modified, headers, offset, parts)


async def _exactly(response: aiohttp.ClientResponse, length: int) -> AsyncIterator[bytes]:
    """The body, which must have `length` bytes."""
    left = length
    try:
        async for chunk in response.content.iter_any():
            left -= len(chunk)
            if left < 0:
                raise SourceWrong("the source sent more bytes than it announced")
            if chunk:
                yield chunk
    except _NETWORK as error:
        raise SourceDown(f"the source broke off {left} bytes before the end: {type(error).__name__}") from error
    if left:
        raise SourceDown(f"the source broke off {left} bytes before the end")


async def _document(response: aiohttp.ClientResponse) -> bytes:
    """A whole answer, bounded."""
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > MAX_DOCUMENT:
            raise SourceWrong("the source's answer is too long")
        await asyncio.sleep(0)
    return bytes(data)
