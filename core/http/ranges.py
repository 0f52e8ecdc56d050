"""Byte ranges (RFC 9110 section 14): what a `Range` header asks of a representation of known size."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

_SPEC = re.compile(r"\A\s*bytes\s*=\s*(?:(\d{1,20})\s*-\s*(\d{1,20})?|-\s*(\d{1,20}))\s*\Z", re.IGNORECASE | re.ASCII)


class RangeError(enum.Enum):
    """Why a header gives no range."""

    IGNORED = "ignored"  # absent, malformed, another unit, or several ranges: answer with the whole representation
    UNSATISFIABLE = "unsatisfiable"  # well-formed, but no byte of the representation is in it: 416


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`length` ≥ 1 bytes from `offset`, inside a representation of `size` bytes."""

    offset: int
    length: int
    size: int

    @property
    def content_range(self) -> str:
        """The Content-Range header's value."""
        return f"bytes {self.offset}-{self.offset + self.length - 1}/{self.size}"


def parse_range(header: str | None, size: int) -> ByteRange | RangeError:
    """Resolve a Range header against a representation of `size` bytes.

    Ranges that reach past the end are clamped. Several ranges in one header are IGNORED, as S3 does.
    """
    if not header:
        return RangeError.IGNORED
    match = _SPEC.match(header)
    if match is None:
        return RangeError.IGNORED
    first, last, suffix = match.groups()
    if suffix is not None:
        length = min(int(suffix), size)
        if length == 0:
            return RangeError.UNSATISFIABLE
        return ByteRange(size - length, length, size)
    offset = int(first)
    end = size - 1 if last is None else int(last)
    if end < offset and last is not None:
        return RangeError.IGNORED  # "bytes=5-2" is not a range at all (RFC 9110, 14.1.1)
    if offset >= size:
        return RangeError.UNSATISFIABLE
    return ByteRange(offset, min(end, size - 1) - offset + 1, size)
