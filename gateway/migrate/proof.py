"""What a source's headers promise of an object, and whether the bytes keep it.

An ETag of 32 hex digits is the MD5 of the bytes (but where the source encrypted them with a key service or a client's
key, or the operator says that this source's are none); one with `-N` is the MD5 of the parts' MD5s; a checksum header
of the full object is what it says. Whatever can be compared is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from engine.types import ChecksumType, Digest, Outcome, Part
from gateway.migrate.errors import SourceWrong
from gateway.migrate.source import Found
from gateway.s3.checksums import (
    DEFAULT_ALGORITHM,
    HEADERS,
    encode,
    full_object,
    multipart_etag,
    new_digest,
)

_MD5 = re.compile(r"[0-9a-f]{32}")
_MULTIPART = re.compile(r"[0-9a-f]{32}-([1-9][0-9]{0,4})")
_COMBINABLE = ("CRC64NVME", "CRC32C", "CRC32")
_MIB = 1 << 20
#: Part sizes that well-known clients choose, the likeliest first.
_USUAL_PARTS = (8, 5, 16, 10, 15, 32, 64, 100, 128, 256, 512, 1024, 20, 25, 50, 200)


def part_count(etag: str) -> int:
    """The number of parts that an ETag tells, 0 for one that tells none."""
    match = _MULTIPART.fullmatch(etag)
    return min(int(match.group(1)), 10_000) if match else 0


def likely_parts(size: int, count: int) -> list[tuple[int, int]]:
    """(offset, length) of `count` parts as a client probably cut `size` bytes."""
    for mib in _USUAL_PARTS:
        if -(-size // (mib * _MIB)) == count:
            step = mib * _MIB
            break
    else:
        step = -(-size // count)
        rounded = -(-step // _MIB) * _MIB
        if -(-size // rounded) == count:
            step = rounded
    return [(start, min(step, size - start)) for start in range(0, size, step)]


def promised(headers: Mapping[str, str]) -> tuple[str, str]:
    """(algorithm, value) of a checksum of the full object that the source gives; ("", "") for none."""
    if headers.get("x-amz-checksum-type", "").upper() == "COMPOSITE":
        return "", ""
    for header, algorithm in HEADERS.items():
        value = headers.get(header, "")
        if value and "-" not in value:
            return algorithm, value
    return "", ""


class WholeProof:
    """Of an object that comes as one run of bytes."""

    def __init__(self, found: Found, *, md5_etags: bool) -> None:
        self._found = found
        self._md5 = new_digest("MD5")
        self._algorithm, self._value = promised(found.headers)
        self._sum = new_digest(self._algorithm or DEFAULT_ALGORITHM)
        encrypted = found.headers.get("x-amz-server-side-encryption", "").startswith("aws:kms") or (
            "x-amz-server-side-encryption-customer-algorithm" in found.headers
        )
        self._expected = found.etag if md5_etags and not encrypted and _MD5.fullmatch(found.etag) else ""
        self.verified = False

    @property
    def digests(self) -> tuple[Digest, ...]:
        return (self._md5, self._sum)

    def finish(self, length: int) -> Outcome:
        """The engine's Finish. Raises SourceWrong."""
        if length != self._found.size:
            raise SourceWrong(f"{length} bytes came of {self._found.size}")
        md5 = self._md5.digest().hex()
        if self._expected and md5 != self._expected:
            raise SourceWrong(f"the bytes have the MD5 {md5}, the source's ETag is {self._expected}")
        value = encode(self._sum.digest())
        if self._value and value != self._value:
            raise SourceWrong(f"the bytes have the {self._algorithm} {value}, the source says {self._value}")
        self.verified = bool(self._expected or self._value)
        return Outcome(md5, {self._algorithm or DEFAULT_ALGORITHM: value}, ChecksumType.FULL_OBJECT)


class PartsProof:
    """Of an object that comes in parts. `exact`: the parts are the source's own, so the ETag must come out the same."""

    def __init__(self, found: Found, *, exact: bool, md5_etags: bool) -> None:
        self._found = found
        algorithm, value = promised(found.headers)
        self._algorithm, self._value = (algorithm, value) if algorithm in _COMBINABLE else (DEFAULT_ALGORITHM, "")
        self._exact = exact and md5_etags
        self.verified = False

    def part(self) -> PartDigests:
        return PartDigests(self._algorithm)

    def conclude(self, parts: Sequence[Part]) -> Outcome:
        """The engine's `conclude`. Raises SourceWrong."""
        size = sum(part.size for part in parts)
        if size != self._found.size:
            raise SourceWrong(f"{size} bytes came of {self._found.size}")
        etag = multipart_etag([part.etag for part in parts])
        if self._exact and etag != self._found.etag:
            raise SourceWrong(f"the parts have the ETag {etag}, the source's is {self._found.etag}")
        value = full_object(self._algorithm, [(part.checksums[self._algorithm], part.size) for part in parts])
        if self._value and value != self._value:
            raise SourceWrong(f"the bytes have the {self._algorithm} {value}, the source says {self._value}")
        self.verified = bool(self._value) or etag == self._found.etag
        return Outcome(etag, {self._algorithm: value}, ChecksumType.FULL_OBJECT)


class PartDigests:
    """ETag and checksum of one part."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._md5, self._sum = new_digest("MD5"), new_digest(algorithm)

    @property
    def digests(self) -> tuple[Digest, ...]:
        return (self._md5, self._sum)

    def finish(self, _: int) -> Outcome:
        value = encode(self._sum.digest())
        return Outcome(self._md5.digest().hex(), {self._algorithm: value}, ChecksumType.FULL_OBJECT)
