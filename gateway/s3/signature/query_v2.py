"""URLs presigned with Signature Version 2, on objects only.

S3 still honours them, and `aws s3 presign` of the widespread first generation of the AWS CLI makes nothing else in
us-east-1 (Amazon S3 developer guide, "Signing and authenticating REST requests", query string alternative). Header
authentication of that version, and query members that it would leave unsigned, stay refused.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping

from gateway.s3.errors import S3Error
from gateway.s3.signature.credential import UNSUPPORTED_MECHANISM

_AUTHENTICATION = frozenset({"AWSAccessKeyId", "Signature", "Expires"})
_SIGNED = frozenset({
    "partNumber", "uploadId", "versionId", "response-cache-control", "response-content-disposition",
    "response-content-encoding", "response-content-language", "response-content-type", "response-expires",
})  # fmt: skip
_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE"})


def claims(query: Mapping[str, str]) -> bool:
    """Whether a request presents a signature of this kind."""
    return "Signature" in query and "AWSAccessKeyId" in query


def expires_at(query: Mapping[str, str]) -> int:
    """Seconds since the Unix epoch after which the URL is void. Raises S3Error AccessDenied."""
    text = query.get("Expires", "")
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise S3Error("AccessDenied", "Query-string authentication requires the Signature, Expires and AWSAccessKeyId "
                      "parameters")  # fmt: skip
    return int(text)


def string_to_sign(method: str, resource: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    """What the URL's signature must be of. `resource` is the raw path with its bucket. Raises S3Error InvalidRequest
    for what this version is not accepted for."""
    if method not in _METHODS or not query.keys() <= _AUTHENTICATION | _SIGNED:
        raise S3Error("InvalidRequest", UNSUPPORTED_MECHANISM)
    lines = [method, headers.get("content-md5", ""), headers.get("content-type", ""), query["Expires"]]
    lines += [f"{name}:{headers[name].strip()}" for name in sorted(headers) if name.startswith("x-amz-")]
    members = [f"{name}={query[name]}" if query[name] else name for name in sorted(query.keys() & _SIGNED)]
    return "\n".join([*lines, resource + ("?" + "&".join(members) if members else "")])


def sign(secret: str, text: str) -> str:
    """The base64 signature of a string to sign."""
    return base64.b64encode(hmac.digest(secret.encode(), text.encode("utf-8", "surrogateescape"), "sha1")).decode()
