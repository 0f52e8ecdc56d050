"""What a writer says of an object beside its bytes: content headers, user metadata, storage class.

Content headers are kept as the client wrote them, under their HTTP names; user metadata under lower-case names without
`x-amz-meta-`, decoded (RFC 2047), and printed so that a header can carry it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header
from typing import Any

from engine.classes import ALIASES
from engine.types import ObjectAttributes, ObjectInfo
from gateway.s3.errors import S3Error
from gateway.s3.rules.acl import acl_from_headers
from gateway.s3.rules.tags import tags_from_header

DEFAULT_CONTENT_TYPE = "binary/octet-stream"
DEFAULT_STORAGE_CLASS = "STANDARD"

#: Classes that answer at once. Archive classes need RestoreObject, which is not implemented.
STORAGE_CLASSES = frozenset({DEFAULT_STORAGE_CLASS, *ALIASES})

_CONTENT_HEADERS = {
    "CacheControl": "Cache-Control",
    "ContentDisposition": "Content-Disposition",
    "ContentLanguage": "Content-Language",
    "ContentType": "Content-Type",
    "Expires": "Expires",  # goes out as it came in, a date or not
    "WebsiteRedirectLocation": "x-amz-website-redirect-location",
}
_ANY_HEADER = frozenset({*_CONTENT_HEADERS, "ContentEncoding"})
_SAYING = frozenset({"ACL", "StorageClass", "Metadata", "Tagging", *_ANY_HEADER})
_OUTPUT_MEMBERS = {
    **{header: member for member, header in _CONTENT_HEADERS.items()},
    "Content-Encoding": "ContentEncoding",
}


def storage_class(params: Mapping[str, Any]) -> str:
    """Raises S3Error InvalidStorageClass."""
    name = params.get("StorageClass") or DEFAULT_STORAGE_CLASS
    if name not in STORAGE_CLASSES:
        raise S3Error("InvalidStorageClass", fields={"StorageClassRequested": str(name)})
    return str(name)


def _raw_text(value: str) -> str:
    """A header's value as text: bytes that were no UTF-8 (kept as surrogates by the HTTP parser) are Latin-1."""
    if value.isascii():
        return value
    raw = value.encode("utf-8", "surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _decode_metadata(value: str) -> str:
    text = _raw_text(value)
    if "=?" not in text:
        return text
    try:
        parts = decode_header(text)
        return "".join(part if isinstance(part, str) else part.decode(charset or "latin-1") for part, charset in parts)
    except (HeaderParseError, LookupError, UnicodeDecodeError, ValueError):
        return text


def _encode_metadata(value: str) -> str:
    if value.isascii() and value.isprintable():
        return value
    return f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?="


def metadata_in(params: Mapping[str, Any], limit: int) -> dict[str, str]:
    """The request's user metadata. Raises S3Error MetadataTooLarge above `limit` bytes of names and values."""
    given: Mapping[str, str] | None = params.get("Metadata")
    if not given:
        return {}
    decoded = {name.lower(): _decode_metadata(value) for name, value in given.items()}
    size = sum(len(name.encode()) + len(value.encode()) for name, value in decoded.items())
    if size > limit:
        raise S3Error("MetadataTooLarge", fields={"Size": str(size), "MaxSizeAllowed": str(limit)})
    return decoded


def content_headers(params: Mapping[str, Any]) -> dict[str, str]:
    """The content headers of a write, without what belongs to the transfer (`aws-chunked`)."""
    if _ANY_HEADER.isdisjoint(params):
        return {}
    headers = {
        header: _raw_text(str(value))
        for member, header in _CONTENT_HEADERS.items()
        if (value := params.get(member)) not in (None, "")
    }
    if encoding := params.get("ContentEncoding"):
        kept = [coding for coding in map(str.strip, str(encoding).split(",")) if coding not in ("", "aws-chunked")]
        if kept:
            headers["Content-Encoding"] = ", ".join(kept)
    redirect = headers.get("x-amz-website-redirect-location", "/")
    if not redirect.startswith(("/", "http://", "https://")):
        raise S3Error(
            "InvalidRedirectLocation",
            "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
            status=400,
        )
    return headers


def attributes_in(params: Mapping[str, Any], owner: str, metadata_limit: int) -> ObjectAttributes:
    """Everything that the headers of a write say. Raises S3Error."""
    if _SAYING.isdisjoint(params):
        return ObjectAttributes(owner=owner)
    return ObjectAttributes(
        owner=owner,
        acl=acl_from_headers(params) or "private",
        storage_class=storage_class(params),
        headers=content_headers(params),
        metadata=metadata_in(params, metadata_limit),
        tags=tags_from_header(params.get("Tagging")),
    )


def put_attributes(output: dict[str, Any], info: ObjectInfo) -> None:
    """Add to an answer of GET or HEAD what the writer said."""
    attributes = info.attributes
    output["ContentType"] = DEFAULT_CONTENT_TYPE
    for header, value in attributes.headers.items():
        output[_OUTPUT_MEMBERS[header]] = value
    if attributes.metadata:
        output["Metadata"] = {name: _encode_metadata(value) for name, value in attributes.metadata.items()}
    if attributes.storage_class != DEFAULT_STORAGE_CLASS:
        output["StorageClass"] = attributes.storage_class
    if attributes.tags:
        output["TagCount"] = len(attributes.tags)
