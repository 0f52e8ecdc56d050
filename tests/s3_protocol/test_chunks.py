"""The aws-chunked decoder: right under any split, and nothing passes that was not signed."""

from __future__ import annotations

import hashlib
import itertools
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3.errors import S3Error
from gateway.s3.signature.keys import derive, sign
from gateway.s3.signature.payload import EMPTY_SHA256
from gateway.s3.signature.verify import ChunkSeed
from gateway.s3.streams import chunks as decoding
from gateway.s3.streams.chunks import MANY_SMALL, MAX_SIGNED_CHUNK, SMALL_CHUNK, ChunkDecoder

# "Examples: ... Transferring Payload in Multiple Chunks" of the S3 API reference
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SEED = ChunkSeed(
    derive(SECRET, "20130524", "us-east-1", "s3"),
    "20130524T000000Z",
    "20130524/us-east-1/s3/aws4_request",
    "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
)
DOC_SIGNATURES = (
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
)


def frame(chunks: Sequence[bytes], trailers: dict[str, str] | None = None, *, signed: bool) -> bytes:
    """A body as a client writes it."""
    out, previous = bytearray(), SEED.signature
    for chunk in (*chunks, b""):
        line = f"{len(chunk):x}"
        if signed:
            text = (
                f"AWS4-HMAC-SHA256-PAYLOAD\n{SEED.timestamp}\n{SEED.scope}\n{previous}\n{EMPTY_SHA256}\n"
                f"{hashlib.sha256(chunk).hexdigest()}"
            )
            previous = sign(SEED.key, text)
            line += f";chunk-signature={previous}"
        out += line.encode() + b"\r\n" + chunk + (b"\r\n" if chunk else b"")
    if trailers is not None:
        text = "".join(f"{name}:{value}\n" for name, value in trailers.items())
        out += text.replace("\n", "\r\n").encode()
        if signed:
            digest = hashlib.sha256(text.encode()).hexdigest()
            signature = sign(
                SEED.key, f"AWS4-HMAC-SHA256-TRAILER\n{SEED.timestamp}\n{SEED.scope}\n{previous}\n{digest}"
            )
            out += f"x-amz-trailer-signature:{signature}\r\n".encode()
    return bytes(out + b"\r\n")


def decode(
    data: bytes, cuts: Sequence[int] = (), *, signed: bool, announced: Sequence[str] = (), trailer: bool = False
) -> tuple[bytes, dict[str, str]]:
    decoder = ChunkDecoder(seed=SEED if signed else None, announced=announced, trailer_allowed=trailer)
    out = bytearray()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        for piece in decoder.feed(data[start:end]):
            out += piece
    decoder.close()
    return bytes(out), decoder.trailers


def feed_all(decoder: ChunkDecoder, data: bytes, step: int, out: list[bytes]) -> None:
    for position in range(0, len(data), step):
        out += [bytes(one) for one in decoder.feed(data[position : position + step])]
    decoder.close()


def test_vector_of_the_reference() -> None:
    data = frame([b"a" * 65536, b"a" * 1024], signed=True)
    for signature in DOC_SIGNATURES:
        assert signature.encode() in data
    assert decode(data, signed=True)[0] == b"a" * 66560


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.lists(st.integers(0, 2000), max_size=30),
    st.booleans(),
    st.booleans(),
)
def test_any_split_decodes(chunks: list[bytes], cuts: list[int], signed: bool, trailer: bool) -> None:
    trailers = {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-type": "x y"} if trailer else None
    data = frame(chunks, trailers, signed=signed)
    got = decode(data, cuts, signed=signed, announced=list(trailers or ()), trailer=trailer)
    assert got == (b"".join(chunks), trailers or {})


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), st.data())
def test_any_flipped_byte_of_a_signed_body_is_refused(chunks: list[bytes], data: st.DataObject) -> None:
    body = bytearray(frame(chunks, {"x-amz-checksum-crc32": "AAAAAA=="}, signed=True))
    position = data.draw(st.integers(0, len(body) - 3))  # the last line end says nothing
    body[position] ^= data.draw(st.integers(1, 255))
    whole = b"".join(chunks)
    passed = bytearray()
    decoder = ChunkDecoder(seed=SEED, announced=["x-amz-checksum-crc32"], trailer_allowed=True)
    try:
        for piece in decoder.feed(bytes(body)):
            passed += piece
        decoder.close()
    except S3Error:
        return
    # what is not refused can only be spelling: the case of a number's digits or of a trailer's name, or a line's end
    assert bytes(passed) == whole
    assert decoder.trailers == {"x-amz-checksum-crc32": "AAAAAA=="}


def test_bytes_of_a_chunk_are_not_given_before_its_signature_holds() -> None:
    data = bytearray(frame([b"a" * 100, b"b" * 100], signed=True))
    data[data.rindex(b"b" * 100) + 99] ^= 1
    decoder = ChunkDecoder(seed=SEED, announced=(), trailer_allowed=False)
    given: list[bytes] = []
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        feed_all(decoder, bytes(data), 1, given)
    assert b"".join(given) == b"a" * 100


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "IncompleteBody"),
        (b"5\r\nhel", "IncompleteBody"),
        (b"5\r\nhello\r\n", "IncompleteBody"),
        (b"5\r\nhello", "IncompleteBody"),
        (b"5\r\nhelloXX0\r\n\r\n", "InvalidRequest"),
        (b"5\nhello\r\n0\r\n\r\n", "InvalidRequest"),
        (b"zz\r\nhello\r\n0\r\n\r\n", "InvalidRequest"),
        (b"-5\r\nhello\r\n0\r\n\r\n", "InvalidRequest"),
        (b"+5\r\nhello\r\n0\r\n\r\n", "InvalidRequest"),
        (b"\r\n0\r\n\r\n", "InvalidRequest"),
        (b"11111111111111111\r\nx", "InvalidRequest"),
        (b"5" * 5000, "InvalidRequest"),
        (b"5;" + b"x" * 5000, "InvalidRequest"),
        (b"0\r\nx-amz-checksum-crc32 AAAA\r\n\r\n", "MalformedTrailerError"),
        (b"0\r\nx-amz-meta-a:1\r\n\r\n", "MalformedTrailerError"),
        (b"0\r\nx-amz-checksum-crc32:A\r\nx-amz-checksum-crc32:B\r\n\r\n", "MalformedTrailerError"),
        (b"0\r\n\r\n", "MalformedTrailerError"),
        (b"0\r\nx-amz-checksum-crc32:\xff\r\n\r\n", "MalformedTrailerError"),
        (b"0\r\n" + b"x" * 20000, "MalformedTrailerError"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_bad_framing_is_refused(body: bytes, code: str, step: int) -> None:
    decoder = ChunkDecoder(seed=None, announced=["x-amz-checksum-crc32"], trailer_allowed=True)
    with pytest.raises(S3Error) as refused:
        feed_all(decoder, body, step, [])
    assert (refused.value.code, refused.value.status) == (code, 400)


def test_trailers_are_refused_where_the_mode_has_none() -> None:
    with pytest.raises(S3Error, match="MalformedTrailerError"):
        decode(frame([b"x"], {"x-amz-checksum-crc32": "A"}, signed=False), signed=False)


@pytest.mark.parametrize("line", [b"5", b"5;", b"5;chunk-signature=", b"5;signature=abc", b"5;chunk-signature=\xff"])
def test_signed_chunks_need_their_signature(line: bytes) -> None:
    with pytest.raises(S3Error):
        decode(line + b"\r\nhello\r\n0\r\n\r\n", signed=True)


def test_an_endless_signed_chunk_is_not_held() -> None:
    line = f"{MAX_SIGNED_CHUNK + 1:x};chunk-signature={'0' * 64}\r\n".encode()
    with pytest.raises(S3Error, match="must not exceed"):
        decode(line, signed=True)


def test_trailer_signature_may_not_be_left_out() -> None:
    data = frame([b"x"], {"x-amz-checksum-crc32": "A"}, signed=True)
    cut = data[: data.index(b"x-amz-trailer-signature")] + b"\r\n"
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        decode(cut, signed=True, announced=["x-amz-checksum-crc32"], trailer=True)


@pytest.mark.parametrize("signed", [False, True])
def test_small_chunks_are_taken_but_not_without_end(signed: bool) -> None:
    taken = decode(frame([b"x"] * MANY_SMALL, signed=signed), signed=signed)
    assert taken == (b"x" * MANY_SMALL, {})
    with pytest.raises(S3Error, match="InvalidChunkSizeError") as refused:
        decode(frame([b"x"] * (MANY_SMALL + 1), signed=signed), signed=signed)
    assert refused.value.status == 403
    large = frame([b"x" * SMALL_CHUNK] * 100, signed=signed)
    assert decode(large, signed=signed) == (b"x" * SMALL_CHUNK * 100, {})


def test_a_held_chunk_that_comes_in_crumbs_is_held_as_bytes() -> None:
    data = frame([bytes(range(256)) * 400], signed=True)
    decoder = ChunkDecoder(seed=SEED, announced=(), trailer_allowed=False)
    tracemalloc.start()
    try:
        for position in range(100_000):
            assert not decoder.feed(data[position : position + 1])
        ours = tracemalloc.Filter(inclusive=True, filename_pattern=decoding.__file__)
        held = sum(one.size for one in tracemalloc.take_snapshot().filter_traces([ours]).traces)
    finally:
        tracemalloc.stop()
    assert held < 4 * len(data)
    assert b"".join(decoder.feed(data[100_000:])) == bytes(range(256)) * 400
    decoder.close()
