"""What a bucket and a key may be called.

Source: "General purpose bucket naming rules" and "Naming Amazon S3 objects" of the S3 user guide.
"""

from __future__ import annotations

import re

from gateway.s3.errors import S3Error

#: UTF-8 bytes of a key.
MAX_KEY = 1024

_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_IPV4 = re.compile(r"\d+\.\d+\.\d+\.\d+")
_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def is_bucket_name(name: str) -> bool:
    """Whether a bucket may be created under this name: 3 to 63 characters, DNS labels, not like an address, not
    reserved."""
    return (
        3 <= len(name) <= 63
        and _BUCKET.fullmatch(name) is not None
        and _IPV4.fullmatch(name) is None
        and not name.startswith(_RESERVED_PREFIXES)
        and not name.endswith(_RESERVED_SUFFIXES)
    )


def check_bucket_name(name: str) -> None:
    """Raises S3Error InvalidBucketName."""
    if not is_bucket_name(name):
        raise S3Error("InvalidBucketName", fields={"BucketName": name})


def check_key(key: str) -> None:
    """Raises S3Error KeyTooLongError for a key of more than 1,024 UTF-8 bytes."""
    if len(key) > MAX_KEY // 4 and (size := len(key.encode())) > MAX_KEY:
        raise S3Error("KeyTooLongError", fields={"Size": str(size), "MaxSizeAllowed": str(MAX_KEY)})
