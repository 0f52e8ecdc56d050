"""How a request's payload is signed: the modes of x-amz-content-sha256."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.s3.errors import S3Error

UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

_ASYMMETRIC = frozenset(
    {"STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER"}
)
_HEX = re.compile(r"[0-9a-fA-F]{64}")

#: SHA-256 of nothing.
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@dataclass(frozen=True, slots=True)
class PayloadMode:
    """What the body looks like and how it is checked."""

    sha256: str = ""  # hex that the whole body must have; "" for none
    chunked: bool = False  # framed as aws-chunked
    chunk_signatures: bool = False
    trailer: bool = False


_NAMED = {
    UNSIGNED: PayloadMode(),
    STREAMING_SIGNED: PayloadMode(chunked=True, chunk_signatures=True),
    STREAMING_SIGNED_TRAILER: PayloadMode(chunked=True, chunk_signatures=True, trailer=True),
    STREAMING_UNSIGNED_TRAILER: PayloadMode(chunked=True, trailer=True),
}
PLAIN = _NAMED[UNSIGNED]


def payload_mode(value: str) -> PayloadMode:
    """The mode that x-amz-content-sha256 names. Raises S3Error NotImplemented for asymmetric signatures,
    InvalidArgument for anything unknown."""
    mode = _NAMED.get(value)
    if mode is not None:
        return mode
    if _HEX.fullmatch(value):
        return PayloadMode(sha256=value)
    if value in _ASYMMETRIC:
        raise S3Error("NotImplemented", "Asymmetric signatures are not implemented.", fields={"Header": value})
    raise S3Error(
        "InvalidArgument",
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
        fields={"ArgumentName": "x-amz-content-sha256", "ArgumentValue": value},
    )


def mode_of(value: str | None) -> PayloadMode:
    """As `payload_mode`; without the header nothing is promised of the body."""
    return PLAIN if value is None else payload_mode(value)
