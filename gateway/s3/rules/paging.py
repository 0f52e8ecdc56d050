"""What listings share: page limits and opaque tokens."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from gateway.s3.errors import S3Error

#: Keys, versions, uploads or parts on a page.
PAGE = 1000

_TOKEN_VERSION = b"1"


def encode_token(position: str) -> str:
    """An opaque continuation token for a position."""
    return base64.urlsafe_b64encode(_TOKEN_VERSION + position.encode()).decode()


def decode_token(token: str | None) -> str:
    """The position of a continuation token, "" for none. Raises S3Error InvalidArgument."""
    if not token:
        return ""
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
        if raw[:1] != _TOKEN_VERSION:
            raise ValueError("another version")
        return raw[1:].decode()
    except (binascii.Error, ValueError):
        raise S3Error(
            "InvalidArgument",
            "The continuation token provided is incorrect",
            fields={"ArgumentName": "continuation-token", "ArgumentValue": token},
        ) from None


def page_limit(params: Mapping[str, Any], member: str, name: str) -> int:
    """How many entries a page may have: at most 1,000, which is also the default. Raises S3Error InvalidArgument."""
    limit = params.get(member)
    if limit is None:
        return PAGE
    if limit < 0 or limit > 0x7FFFFFFF:
        raise S3Error(
            "InvalidArgument",
            f"Argument {name} must be an integer between 0 and 2147483647",
            fields={"ArgumentName": name, "ArgumentValue": str(limit)},
        )
    return min(int(limit), PAGE)


def check_encoding(params: Mapping[str, Any]) -> str | None:
    """The encoding type that the listing is printed in. Raises S3Error InvalidArgument for one other than `url`."""
    encoding = params.get("EncodingType")
    if not encoding:
        return None
    if encoding != "url":
        raise S3Error(
            "InvalidArgument",
            "Invalid Encoding Method specified in Request",
            fields={"ArgumentName": "encoding-type", "ArgumentValue": str(encoding)},
        )
    return str(encoding)
