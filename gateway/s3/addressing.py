"""What a request's target addresses: service, bucket or key, in either addressing style.

The raw target is read, never a normalised one: `//`, `.` and `..` are part of keys.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from gateway.s3.errors import S3Error
from gateway.s3.model import Level

#: UTF-8 bytes of a key.
MAX_KEY = 1024

_HOSTS = 1024  # of which the bucket is remembered
_BAD_ESCAPE = re.compile("%(?![0-9a-fA-F]{2})")


def split_target(target: str) -> tuple[str, str]:
    """(raw path, raw query) of a request target in origin or absolute form. Raises S3Error InvalidURI."""
    path, _, query = target.partition("?")
    if not path.startswith("/"):
        scheme, separator, rest = path.partition("://")
        if not separator or scheme.lower() not in ("http", "https"):
            raise S3Error("InvalidURI", fields={"URI": target[:256]})
        slash = rest.find("/")
        path = rest[slash:] if slash >= 0 else "/"
    return path, query


def decode(text: str, *, plus: bool = False) -> str:
    """A percent-encoded piece of a target as text. Raises S3Error InvalidURI unless it is valid UTF-8."""
    if plus and "+" in text:
        text = text.replace("+", " ")
    if "%" not in text and text.isascii():
        return text
    if _BAD_ESCAPE.search(text):
        raise S3Error("InvalidURI", fields={"URI": text[:256]})
    try:
        return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode()
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", fields={"URI": text[:256]}) from None


def parse_query(raw: str) -> dict[str, str]:
    """Members of a query; a bare name has an empty value, of a repeated one the first counts."""
    query: dict[str, str] = {}
    for piece in raw.split("&"):
        if piece:
            name, _, value = piece.partition("=")
            query.setdefault(decode(name, plus=True), decode(value, plus=True))
    return query


class Addressing:
    """Finds bucket and key in host and path."""

    def __init__(self, base_domains: Sequence[str]) -> None:
        """`base_domains`: names below which the first labels of the host are a bucket."""
        self._suffixes = tuple(f".{one.lower().strip('.')}" for one in base_domains if one)
        self._of_host = lru_cache(_HOSTS)(self.bucket_of_host)

    def resolve(self, host: str, raw_path: str) -> tuple[Level, str, str]:
        """(level, bucket, key). Raises S3Error InvalidURI, KeyTooLongError, InvalidBucketName."""
        bucket = self._of_host(host)
        rest = raw_path[1:]
        plain = "%" not in raw_path and raw_path.isascii()
        if not bucket:
            name, _, rest = rest.partition("/")
            if not name:
                if rest:
                    raise S3Error("InvalidBucketName", fields={"BucketName": ""})
                return Level.SERVICE, "", ""
            bucket = name if plain else decode(name)
        if not rest:
            return Level.BUCKET, bucket, ""
        key = rest if plain else decode(rest)
        if len(key) > MAX_KEY // 4 and (size := len(key.encode())) > MAX_KEY:
            raise S3Error("KeyTooLongError", fields={"Size": str(size), "MaxSizeAllowed": str(MAX_KEY)})
        return Level.OBJECT, bucket, key

    def bucket_of_host(self, host: str) -> str:
        name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
        for suffix in self._suffixes:
            if len(name) > len(suffix) and name[-len(suffix) :].lower() == suffix:
                return name[: -len(suffix)].lower()
        return ""
