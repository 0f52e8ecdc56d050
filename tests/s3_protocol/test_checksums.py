"""Checksums: every algorithm against an independent source, combination against computing directly, declarations."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import AsyncIterator, Mapping

import pytest
from awscrt import checksums as crt
from hypothesis import given
from hypothesis import strategies as st

from core.buffers import Buffer
from engine.types import ChecksumType
from gateway.s3.checksums import (
    ALGORITHMS,
    SIZES,
    Integrity,
    composite,
    encode,
    full_object,
    multipart_etag,
    multipart_type,
    new_digest,
    output_members,
    verify_document,
)
from gateway.s3.errors import S3Error
from gateway.s3.model import ServiceModel


class Body:
    """A body that is already there."""

    def __init__(self, data: bytes, announced: tuple[str, ...] = (), trailers: Mapping[str, str] | None = None) -> None:
        self.data, self.announced, self.trailers = data, announced, trailers or {}
        self.length: int | None = len(data)
        self.sha256 = ""

    async def source(self) -> AsyncIterator[Buffer]:
        yield self.data

    def whole(self) -> bytes | None:
        return self.data

    def take_payload_hash(self) -> str:
        return self.sha256


def test_the_algorithms_are_the_models() -> None:
    enum = ServiceModel.load().operations["PutObject"].input.members["ChecksumAlgorithm"].shape.enum
    assert set(ALGORITHMS) == set(enum)


# CRC check values of "123456789": reveng's catalogue; CRC64NVME's is the NVMe specification's
_CHECK = {
    "CRC32": "cbf43926",
    "CRC32C": "e3069283",
    "CRC64NVME": "ae8b14860a799888",
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(st.lists(st.binary(max_size=50), max_size=5))
def test_running_equals_whole(algorithm: str, pieces: list[bytes]) -> None:
    digest = new_digest(algorithm)
    for piece in pieces:
        digest.update(memoryview(piece))
    whole = b"".join(pieces)
    independent = {
        "CRC32": lambda: zlib.crc32(whole).to_bytes(4, "big"),
        "MD5": lambda: hashlib.md5(whole).digest(),
        "SHA1": lambda: hashlib.sha1(whole).digest(),
        "SHA256": lambda: hashlib.sha256(whole).digest(),
        "SHA512": lambda: hashlib.sha512(whole).digest(),
        # the SDK's own library: what a client would send
        "XXHASH64": lambda: crt.XXHash.compute_xxhash64(whole),
        "XXHASH3": lambda: crt.XXHash.compute_xxhash3_64(whole),
        "XXHASH128": lambda: crt.XXHash.compute_xxhash3_128(whole),
        "CRC32C": lambda: crt.crc32c(whole).to_bytes(4, "big"),
        "CRC64NVME": lambda: crt.crc64nvme(whole).to_bytes(8, "big"),
    }
    assert digest.digest() == independent[algorithm]()  # type: ignore[no-untyped-call]
    assert len(digest.digest()) == SIZES[algorithm]


@pytest.mark.parametrize(("algorithm", "value"), _CHECK.items())
def test_check_values(algorithm: str, value: str) -> None:
    digest = new_digest(algorithm)
    digest.update(b"123456789")
    assert digest.digest().hex() == value


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=6))
def test_crcs_of_parts_combine_to_the_whole(algorithm: str, parts: list[bytes]) -> None:
    def value(data: bytes) -> str:
        digest = new_digest(algorithm)
        digest.update(data)
        return encode(digest.digest())

    assert full_object(algorithm, [(value(part), len(part)) for part in parts]) == value(b"".join(parts))


def test_composite_and_etag_are_digests_of_digests() -> None:
    parts = [b"one", b"two", b"three"]
    digests = [hashlib.sha256(part).digest() for part in parts]
    expected = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode() + "-3"
    assert composite("SHA256", [encode(one) for one in digests]) == expected
    md5s = [hashlib.md5(part).digest() for part in parts]
    assert multipart_etag([one.hex() for one in md5s]) == hashlib.md5(b"".join(md5s)).hexdigest() + "-3"


@pytest.mark.parametrize(
    ("algorithm", "requested", "expected"),
    [
        ("CRC32", None, ChecksumType.COMPOSITE),
        ("CRC32", "FULL_OBJECT", ChecksumType.FULL_OBJECT),
        ("CRC64NVME", None, ChecksumType.FULL_OBJECT),
        ("CRC64NVME", "COMPOSITE", None),
        ("SHA256", None, ChecksumType.COMPOSITE),
        ("SHA256", "FULL_OBJECT", None),
        ("SHA256", "HALF_OBJECT", None),
    ],
)
def test_types_of_multipart_checksums(algorithm: str, requested: str | None, expected: ChecksumType | None) -> None:
    if expected is None:
        with pytest.raises(S3Error, match="InvalidRequest"):
            multipart_type(algorithm, requested)
    else:
        assert multipart_type(algorithm, requested) is expected


def _finish(headers: dict[str, str], body: Body) -> Integrity:
    integrity = Integrity(headers, body)
    for digest in integrity.digests:
        digest.update(body.data)
    return integrity


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("trailing", [True, False])
def test_declared_checksums_are_verified(algorithm: str, trailing: bool) -> None:
    data = b"payload"
    digest = new_digest(algorithm)
    digest.update(data)
    value, name = encode(digest.digest()), f"x-amz-checksum-{algorithm.lower()}"
    for sent, right in ((value, True), (encode(bytes(SIZES[algorithm])), False), ("", False)):
        body = Body(data, (name,), {name: sent}) if trailing else Body(data)
        integrity = _finish({} if trailing else {name: sent}, body)
        assert integrity.algorithm == algorithm
        if right:
            outcome = integrity.finish(len(data))
            assert outcome.checksums == {algorithm: value}
            assert outcome.etag == hashlib.md5(data).hexdigest()
            assert output_members(outcome.checksums, outcome.checksum_type) == {
                f"Checksum{algorithm}": value,
                "ChecksumType": "FULL_OBJECT",
            }
        else:
            with pytest.raises(S3Error, match="BadDigest"):
                integrity.finish(len(data))


def test_without_a_declaration_the_default_is_computed() -> None:
    outcome = _finish({}, Body(b"payload")).finish(7)
    assert outcome.checksums == {"CRC64NVME": encode(crt.crc64nvme(b"payload").to_bytes(8, "big"))}


def test_an_announced_trailer_must_come() -> None:
    integrity = _finish({}, Body(b"payload", ("x-amz-checksum-crc32",), {}))
    with pytest.raises(S3Error, match="MalformedTrailerError"):
        integrity.finish(7)


def test_payload_hash_is_taken_over_from_the_body() -> None:
    body = Body(b"payload")
    body.sha256 = "0" * 64
    with pytest.raises(S3Error, match="XAmzContentSHA256Mismatch"):
        _finish({}, body).finish(7)
    body.sha256 = hashlib.sha256(b"payload").hexdigest()
    # one digest serves the payload hash and the checksum
    assert len(Integrity({"x-amz-checksum-sha256": "x"}, body).digests) == 2
    _finish({}, body).finish(7)


def test_documents_need_no_checksum_but_a_right_one() -> None:
    verify_document({}, Body(b"<x/>"), b"<x/>")
    with pytest.raises(S3Error, match="BadDigest"):
        verify_document({"x-amz-checksum-crc32": "AAAAAA=="}, Body(b"<x/>"), b"<x/>")
