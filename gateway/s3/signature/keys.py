"""Signing keys, derived once a day for each secret and scope."""

from __future__ import annotations

import hmac
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

_CAPACITY = 4096
_BLOCK = 64
_INNER = bytes(value ^ 0x36 for value in range(256))
_OUTER = bytes(value ^ 0x5C for value in range(256))


def derive(secret: str, date: str, region: str, service: str) -> bytes:
    """The signing key of a day (`YYYYMMDD`), a region and a service."""
    key = hmac.digest(b"AWS4" + secret.encode(), date.encode(), "sha256")
    for part in (region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


class SigningKeys:
    """A bounded cache of `derive`. A changed secret never finds the old one's key."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._keys: dict[tuple[str, str, str, str], bytes] = {}

    def get(self, secret: str, date: str, region: str, service: str) -> bytes:
        name = (secret, date, region, service)
        key = self._keys.get(name)
        if key is None:
            key = derive(secret, date, region, service)
            if len(self._keys) >= self._capacity:
                # oldest first: dicts keep the order of insertion, and yesterday's keys come before today's
                del self._keys[next(iter(self._keys))]
            self._keys[name] = key
        return key


@lru_cache(_CAPACITY)
def _primed(key: bytes) -> tuple[_Hash, _Hash]:
    """HMAC's inner and outer hash (RFC 2104), the key in them already: a copy costs less than a new beginning."""
    padded = key.ljust(_BLOCK, b"\0")
    return sha256(padded.translate(_INNER)), sha256(padded.translate(_OUTER))


def sign(key: bytes, text: str) -> str:
    """The hex signature of a string to sign, by a signing key (32 bytes)."""
    inner, outer = _primed(key)
    inner, outer = inner.copy(), outer.copy()
    inner.update(text.encode("utf-8", "surrogateescape"))
    outer.update(inner.digest())
    return outer.hexdigest()


def string_to_sign(timestamp: str, scope: str, canonical: str) -> str:
    """The string to sign for a canonical request; `scope` is `date/region/service/aws4_request`."""
    digest = sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    return f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{digest}"
