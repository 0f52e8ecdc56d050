"""S3's ten checksum algorithms: running digests, what a request declares, and what parts combine to.

Values are base64 of the digest in network byte order, as `x-amz-checksum-*` carries them (for CRCs and xxHash: the
big-endian canonical form, checked against the SDK's own).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import xxhash
from awscrt import checksums as crt

from core.buffers import Buffer
from engine.types import ChecksumType, Digest, Outcome
from gateway.s3.contract import RequestBody
from gateway.s3.errors import S3Error

#: What is stored when the client names no algorithm, as S3 does since 2024-12.
DEFAULT_ALGORITHM = "CRC64NVME"


class RunningDigest(Digest, Protocol):
    """A digest that can be read."""

    def digest(self) -> bytes: ...


class _Crc:
    """A CRC as a digest object; `compute(data, previous) -> value`."""

    __slots__ = ("_compute", "_size", "_value")

    def __init__(self, compute: Callable[[Buffer, int], int], size: int) -> None:
        self._compute, self._size, self._value = compute, size, 0

    def update(self, data: Buffer, /) -> None:
        self._value = self._compute(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def _md5() -> RunningDigest:
    return hashlib.md5(usedforsecurity=False)


_NEW: dict[str, Callable[[], RunningDigest]] = {
    "CRC32": lambda: _Crc(crt.crc32, 4),
    "CRC32C": lambda: _Crc(crt.crc32c, 4),
    "CRC64NVME": lambda: _Crc(crt.crc64nvme, 8),
    "SHA1": lambda: hashlib.sha1(usedforsecurity=False),
    "SHA256": hashlib.sha256,
    "SHA512": hashlib.sha512,
    "MD5": _md5,
    "XXHASH64": xxhash.xxh64,
    "XXHASH3": xxhash.xxh3_64,
    "XXHASH128": xxhash.xxh3_128,
}

_COMBINE: dict[str, Callable[[int, int, int], int]] = {
    "CRC32": crt.combine_crc32,
    "CRC32C": crt.combine_crc32c,
    "CRC64NVME": crt.combine_crc64nvme,
}

ALGORITHMS: tuple[str, ...] = tuple(_NEW)
#: algorithm -> the model's member name, such as ChecksumCRC32
MEMBERS: dict[str, str] = {name: f"Checksum{name}" for name in ALGORITHMS}
#: lower-case header -> algorithm
HEADERS: dict[str, str] = {f"x-amz-checksum-{name.lower()}": name for name in ALGORITHMS}
#: algorithm -> bytes in its digest
SIZES: dict[str, int] = {name: len(new().digest()) for name, new in _NEW.items()}

# headers with the same prefix that name no value
_NOT_VALUES = frozenset({"x-amz-checksum-algorithm", "x-amz-checksum-type", "x-amz-checksum-mode"})


def new_digest(algorithm: str) -> RunningDigest:
    """A fresh digest. Raises KeyError for a name that is not in ALGORITHMS."""
    return _NEW[algorithm]()


def encode(digest: bytes) -> str:
    """A digest as S3 prints it."""
    return binascii.b2a_base64(digest, newline=False).decode("ascii")


def multipart_type(algorithm: str, requested: str | None) -> ChecksumType:
    """The checksum type of a multipart upload with `algorithm`, `requested` being the client's x-amz-checksum-type.

    CRC64NVME is always of the full object, the hashes always composite, CRC32 and CRC32C composite unless asked
    otherwise. Raises S3Error InvalidRequest for a pair that S3 refuses.
    """
    if requested is not None and requested not in ("COMPOSITE", "FULL_OBJECT"):
        raise S3Error("InvalidRequest", "Value for x-amz-checksum-type header is invalid.")
    if algorithm == "CRC64NVME":
        default, possible = ChecksumType.FULL_OBJECT, {ChecksumType.FULL_OBJECT}
    elif algorithm in _COMBINE:
        default, possible = ChecksumType.COMPOSITE, {ChecksumType.COMPOSITE, ChecksumType.FULL_OBJECT}
    else:
        default, possible = ChecksumType.COMPOSITE, {ChecksumType.COMPOSITE}
    chosen = default if requested is None else ChecksumType(requested)
    if chosen not in possible:
        raise S3Error(
            "InvalidRequest",
            f"The {chosen.value} checksum type cannot be used with the {algorithm.lower()} checksum algorithm.",
        )
    return chosen


def composite(algorithm: str, values: Sequence[str]) -> str:
    """The checksum of the parts' checksums, `<base64>-<parts>`."""
    digest = new_digest(algorithm)
    for value in values:
        digest.update(base64.b64decode(value))
    return f"{encode(digest.digest())}-{len(values)}"


def full_object(algorithm: str, parts: Sequence[tuple[str, int]]) -> str:
    """The checksum of the whole from (checksum, size in bytes) of each part, for CRCs. Raises KeyError for others."""
    combine = _COMBINE[algorithm]
    total = 0
    for value, size in parts:
        total = combine(total, int.from_bytes(base64.b64decode(value), "big"), size)
    return encode(total.to_bytes(SIZES[algorithm], "big"))


def multipart_etag(etags: Sequence[str]) -> str:
    """MD5 of the parts' MD5s, `<hex>-<parts>`; takes and gives bare ETags."""
    digest = _md5()
    for etag in etags:
        digest.update(bytes.fromhex(etag))
    return f"{digest.digest().hex()}-{len(etags)}"


def output_members(checksums: Mapping[str, str], checksum_type: ChecksumType | None) -> dict[str, str]:
    """`{"ChecksumCRC32": value, "ChecksumType": "FULL_OBJECT"}` for an answer; {} when there is no checksum."""
    members = {MEMBERS[name]: value for name, value in checksums.items()}
    if members and checksum_type is not None:
        members["ChecksumType"] = checksum_type._value_  # `value` is two calls
    return members


def declared_values(headers: Mapping[str, str]) -> dict[str, str]:
    """algorithm -> value of every x-amz-checksum-* in lower-case headers or trailers. Raises S3Error for an
    algorithm that S3 does not have."""
    found: dict[str, str] = {}
    if "x-amz-checksum-" not in " ".join(headers):  # many headers are looked at faster together
        return found
    for name, value in headers.items():
        if name.startswith("x-amz-checksum-") and name not in _NOT_VALUES:
            algorithm = HEADERS.get(name)
            if algorithm is None:
                raise S3Error(
                    "InvalidRequest", "The algorithm type you specified in x-amz-checksum- header is invalid."
                )
            found[algorithm] = value
    return found


class Integrity:
    """What one upload must hold: digests for the engine to run, and the conclusion once they are done.

    `digests` go to the engine (ETag's MD5 first); `finish` is the engine's Finish: it verifies Content-MD5, the signed
    payload hash and the declared checksum (a header's or a trailer's) and tells what to store. Its S3Error refuses
    the write.
    """

    __slots__ = ("_body", "_checksum", "_content_md5", "_declared", "_md5", "_payload", "_payload_hash", "algorithm",
                 "digests")  # fmt: skip

    def __init__(self, headers: Mapping[str, str], body: RequestBody, *, default: str = DEFAULT_ALGORITHM) -> None:
        """`headers` by lower-case name (`request.headers`). `default`: the algorithm computed when the client names
        none; "" for none. Raises S3Error for declarations that can't be met, before any byte is read."""
        self._content_md5 = _parse_content_md5(headers["content-md5"]) if "content-md5" in headers else b""
        self.algorithm, self._declared = _declaration(headers, body.announced)
        if not self.algorithm:
            self.algorithm = default
        self._body = body
        self._md5: RunningDigest = _md5()
        running: dict[str, RunningDigest] = {"MD5": self._md5}
        self._payload_hash = body.take_payload_hash()
        if self.algorithm and self.algorithm not in running:
            running[self.algorithm] = new_digest(self.algorithm)
        if self._payload_hash and "SHA256" not in running:
            running["SHA256"] = hashlib.sha256()
        self._checksum = running.get(self.algorithm)
        self._payload = running.get("SHA256")
        self.digests: tuple[Digest, ...] = tuple(running.values())

    def finish(self, length: int) -> Outcome:
        """Verify everything that was declared of the `length` bytes; raises S3Error BadDigest,
        XAmzContentSHA256Mismatch, InvalidRequest or MalformedTrailerError."""
        md5 = self._md5.digest()
        if self._content_md5 and md5 != self._content_md5:
            raise S3Error(
                "BadDigest",
                fields={"ExpectedDigest": encode(self._content_md5), "CalculatedDigest": encode(md5)},
            )
        if self._payload_hash and self._payload is not None:
            require_payload_hash(self._payload_hash, self._payload.digest())
        checksums: dict[str, str] = {}
        if self._checksum is not None:
            value = encode(self._checksum.digest())
            if self._declared is not None:
                self._require_declared(self._declared, value)
            checksums[self.algorithm] = value
        return Outcome(md5.hex(), checksums, ChecksumType.FULL_OBJECT if checksums else None)

    def _require_declared(self, declared: str, computed: str) -> None:
        if declared == "":  # announced as a trailer
            trailers = declared_values(self._body.trailers)
            if set(trailers) != {self.algorithm}:
                raise S3Error("MalformedTrailerError")
            declared = trailers[self.algorithm]
        require_checksum(self.algorithm, declared, computed)


def require_checksum(algorithm: str, declared: str, computed: str) -> None:
    """Raise S3Error BadDigest unless a declared checksum is the computed one. A value that is no digest at all can't
    match either."""
    if declared != computed:
        raise S3Error("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")


def require_payload_hash(signed: str, computed: bytes) -> None:
    """Raise S3Error unless the payload has the SHA-256 (hex) that the client signed."""
    if signed.lower() != computed.hex():
        raise S3Error(
            "XAmzContentSHA256Mismatch",
            fields={"ClientComputedContentSHA256": signed, "S3ComputedContentSHA256": computed.hex()},
        )


def _parse_content_md5(value: str) -> bytes:
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise S3Error("InvalidDigest", fields={"Content-MD5": value})
    return digest


def _declaration(headers: Mapping[str, str], announced: Sequence[str]) -> tuple[str, str | None]:
    """(algorithm, declared value); the value is "" if it comes as a trailer, None if only an algorithm is known."""
    values = declared_values(headers)
    trailing = declared_values(dict.fromkeys(announced, "")) if announced else {}
    if len(values) + len(trailing) > 1:
        raise S3Error(
            "InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
        )
    named = headers.get("x-amz-sdk-checksum-algorithm", "").upper()
    if not (values or trailing or named):
        return "", None
    if named and named not in _NEW:
        raise S3Error("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")
    for algorithm, value in (*values.items(), *((name, "") for name in trailing)):
        if named and named != algorithm:
            raise S3Error("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")
        # an empty header value must not be taken for an announced trailer
        return algorithm, (value or "missing") if algorithm in values else ""
    if named:
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers "
            "were found.",
        )
    return "", None


def verify_document(headers: Mapping[str, str], body: RequestBody, data: bytes) -> None:
    """Check everything a request declares of its XML payload, once that is read whole. Raises as Integrity does."""
    integrity = Integrity(headers, body, default="")
    for digest in integrity.digests:
        digest.update(data)
    integrity.finish(len(data))


def members_of(params: Mapping[str, Any]) -> dict[str, str]:
    """algorithm -> value of the Checksum* members in a parsed structure, such as a part of Complete."""
    return {name: params[member] for name, member in MEMBERS.items() if params.get(member)}
