"""Golden vectors of docs/formats/object.md, opened twice.

Once with this program, once with a reader written from the page alone: pycryptodome for AES-GCM and HKDF, the field by
shift and XOR, struct for the footer. What is published never changes: the generator must still write the same bytes.
"""

from __future__ import annotations

import importlib.util
import json
import math
import struct
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from Crypto.Cipher import AES
from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF

from core.buffers import Buffer
from erasure.codec import Codec
from erasure.isal import IsalCodec
from erasure.keys import body_key, unwrap_body_key, unwrap_content_key
from erasure.liberasurecode import LiberasurecodeCodec
from erasure.merkle import merkle_root, verify_proof
from erasure.piece import build_pieces, check_piece
from erasure.portable import PortableCodec
from erasure.rebuild import rebuild_pieces
from erasure.scheme import Scheme
from erasure.seal import BodyOpener, BodySealer

FOLDER = Path(__file__).parents[1] / "vectors" / "object"
CODECS: list[Codec] = [PortableCodec(), IsalCodec(), LiberasurecodeCodec()]


def load(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


KEYS, SEAL, CODE, SEGMENT, MERKLE = (load(f"{n}.json") for n in ("keys", "seal", "code", "segment", "merkle"))
unhex = bytes.fromhex


def plaintext(named: dict[str, Any]) -> bytes:
    label, length = named["label"].encode(), named["length"]
    return b"".join(sha256(label + struct.pack(">Q", i)).digest() for i in range(-(-length // 32)))[:length]


# The reader that knows the page only.


def reader_hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    derived = HKDF(key, 32, salt, SHA256, 1, info)
    assert isinstance(derived, bytes)
    return derived


def reader_gcm(key: bytes, nonce: bytes, context: bytes, sealed: bytes) -> bytes:
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce)
    cipher.update(context)
    return cipher.decrypt_and_verify(sealed[:-16], sealed[-16:])


def reader_open(content_key: bytes, body_id: bytes, length: int, sealed: bytes) -> bytes:
    key = reader_hkdf(content_key, b"", b"atoll/body/1" + body_id)
    frames = max(1, math.ceil(length / 65536))
    plain = b""
    for i in range(frames):
        context = bytes([1]) + body_id + i.to_bytes(8, "big") + bytes([i == frames - 1])
        plain += reader_gcm(key, bytes(4) + i.to_bytes(8, "big"), context, sealed[65552 * i : 65552 * (i + 1)])
    return plain


def reader_multiply(a: int, b: int) -> int:
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a = a << 1 ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return product


def reader_inverse(a: int) -> int:
    return next(b for b in range(256) if reader_multiply(a, b) == 1)


def reader_parity(k: int, m: int, data: list[bytes]) -> list[bytes]:
    parity = []
    for i in range(m):
        total = [0] * len(data[0])
        for j, shard in enumerate(data):
            factor = reader_inverse((k + i) ^ j)
            table = [reader_multiply(factor, x) for x in range(256)]
            total = [t ^ table[x] for t, x in zip(total, shard, strict=True)]
        parity.append(bytes(total))
    return parity


def reader_piece(data: bytes, index: int, vector: dict[str, Any]) -> list[bytes]:
    """Checks a whole piece by the page and returns its shards."""
    k, m, size, length = vector["k"], vector["m"], vector["shard_size"], vector["sealed_length"]
    stripes = math.ceil(length / (k * size))
    last = math.ceil((length - (stripes - 1) * k * size) / k)
    footer = data[(stripes - 1) * size + last :]
    fields = struct.unpack(">8sBII16sBBBBIQI", footer[32 * stripes :])
    assert fields == (
        b"ATOLLPCE", 1, 0, 0, unhex(vector["segment_id"]), 1, index, k, m, size, length, 32 * stripes + 53
    )  # fmt: skip
    shards = [data[t * size : t * size + (last if t == stripes - 1 else size)] for t in range(stripes)]
    assert footer[: 32 * stripes] == b"".join(blake3(shard).digest() for shard in shards)
    assert blake3(footer).digest().hex() == vector["pieces"][index]["piece_hash"]
    return shards


def test_the_generator_still_writes_the_published_bytes() -> None:
    spec = importlib.util.spec_from_file_location("object_vector_generator", FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    documents = generator.documents()
    assert documents.keys() == {path.name for path in FOLDER.glob("*.json")}
    for name, document in documents.items():
        assert document == load(name), name


def test_body_keys() -> None:
    for vector in KEYS["body_keys"]:
        content_key, body_id = unhex(vector["content_key"]), unhex(vector["body_id"])
        assert body_key(content_key, body_id).hex() == vector["body_key"]
        assert reader_hkdf(content_key, b"", b"atoll/body/1" + body_id).hex() == vector["body_key"]


def test_the_wrapped_content_key() -> None:
    vector = KEYS["content_key_wrap"]
    above, wrapped, content_key = (unhex(vector[name]) for name in ("bucket_key", "wrapped", "content_key"))
    bucket_id, manifest_id = unhex(vector["bucket_id"]), unhex(vector["manifest_id"])
    length: int = vector["plain_length"]
    opened = unwrap_content_key(above, wrapped, bucket_id=bucket_id, manifest_id=manifest_id, plain_length=length)
    assert opened == content_key
    context = bytes([1]) + bucket_id + manifest_id + length.to_bytes(8, "big")
    key = reader_hkdf(above, wrapped[:16], b"atoll/wrap/1")
    assert reader_gcm(key, bytes(12), context, wrapped[16:]) == content_key


def test_the_wrapped_body_key() -> None:
    vector = KEYS["body_key_wrap"]
    above, body_id, wrapped = (unhex(vector[name]) for name in ("content_key", "body_id", "wrapped"))
    assert unwrap_body_key(above, wrapped, body_id=body_id).hex() == vector["body_key"]
    key = reader_hkdf(above, wrapped[:16], b"atoll/extent/1")
    assert reader_gcm(key, bytes(12), bytes([1]) + body_id, wrapped[16:]).hex() == vector["body_key"]


@pytest.mark.parametrize("vector", SEAL, ids=lambda v: str(v["plaintext"]["length"]))
def test_sealed_bodies(vector: dict[str, Any]) -> None:
    content_key, body_id, plain = unhex(vector["content_key"]), unhex(vector["body_id"]), plaintext(vector["plaintext"])
    sealed = bytearray(vector["sealed_length"])
    BodySealer(body_key(content_key, body_id), body_id).seal(0, plain, sealed, last=True)
    assert sha256(sealed).hexdigest() == vector["sealed_sha256"]
    assert sealed[:64].hex() == vector["first_64"]
    out = bytearray(len(plain))
    BodyOpener(body_key(content_key, body_id), body_id, len(plain)).open(0, sealed, out)
    assert out == plain
    assert reader_open(content_key, body_id, len(plain), bytes(sealed)) == plain


def test_frames_per_shard() -> None:
    published = {int(k): frames for k, frames in CODE["frames_per_shard"].items()}
    assert published == {k: Scheme(k, 0).frames_per_shard for k in range(1, 33)}
    assert published == {k: max(1, math.floor((32 + k) / (2 * k))) for k in range(1, 33)}


@pytest.mark.parametrize("vector", CODE["stripes"], ids=lambda v: f"{v['k']}+{v['m']}")
def test_parity(vector: dict[str, Any]) -> None:
    scheme = Scheme(vector["k"], vector["m"])
    data, due = list(map(unhex, vector["data"])), list(map(unhex, vector["parity"]))
    assert reader_parity(scheme.k, scheme.m, data) == due
    buffers: list[Buffer] = list(data)
    for codec in CODECS:
        parity = [bytearray(len(data[0])) for _ in range(scheme.m)]
        codec.encode(scheme, buffers, parity)
        assert parity == due, codec.name


def test_the_small_segment_piece_by_piece() -> None:
    vector = SEGMENT["small"]
    pieces = [unhex(piece["data"]) for piece in vector["pieces"]]
    content_key, body_id, plain = unhex(vector["content_key"]), unhex(vector["body_id"]), plaintext(vector["plaintext"])
    # by the page
    rows = [reader_piece(piece, index, vector) for index, piece in enumerate(pieces)]
    stripes = [list(stripe) for stripe in zip(*rows, strict=True)]
    assert all(reader_parity(4, 2, stripe[:4]) == stripe[4:] for stripe in stripes)
    sealed = b"".join(shard for stripe in stripes for shard in stripe[:4])[: vector["sealed_length"]]
    assert reader_open(content_key, body_id, len(plain), sealed) == plain
    # by the program
    shape = Scheme(4, 2).shape(vector["sealed_length"], vector["shard_size"])
    for index, piece in enumerate(pieces):
        digest = unhex(vector["pieces"][index]["piece_hash"])
        check_piece(piece, segment_id=unhex(vector["segment_id"]), index=index, shape=shape, digest=digest)
    for codec in CODECS:
        rebuilt = rebuild_pieces(codec, {i: pieces[i] for i in (1, 3, 4, 5)}, range(6))
        assert [rebuilt.pieces[i].data for i in range(6)] == pieces, codec.name


@pytest.mark.parametrize("segment", SEGMENT["large"]["segments"], ids=lambda v: f"{v['k']}+{v['m']}")
def test_the_large_segments(segment: dict[str, Any]) -> None:
    vector = SEGMENT["large"]
    content_key, body_id, plain = unhex(vector["content_key"]), unhex(vector["body_id"]), plaintext(vector["plaintext"])
    sealed = bytearray(vector["sealed_length"])
    BodySealer(body_key(content_key, body_id), body_id).seal(0, plain, sealed, last=True)
    shape = Scheme(segment["k"], segment["m"]).shape(len(sealed))
    assert shape.shard_size == segment["shard_size"]
    pieces = build_pieces(PortableCodec(), unhex(segment["segment_id"]), shape, sealed)
    assert [piece.digest.hex() for piece in pieces] == [piece["piece_hash"] for piece in segment["pieces"]]
    assert [sha256(piece.data).hexdigest() for piece in pieces] == [piece["sha256"] for piece in segment["pieces"]]
    whole = {**segment, "sealed_length": len(sealed)}
    rows = [reader_piece(piece.data, piece.index, whole) for piece in pieces]
    assert [piece.data[shape.shards_size :].hex() for piece in pieces] == [p["footer"] for p in segment["pieces"]]
    joined = b"".join(b"".join(stripe[: segment["k"]]) for stripe in zip(*rows, strict=True))[: len(sealed)]
    assert reader_open(content_key, body_id, len(plain), joined) == plain


@pytest.mark.parametrize("vector", MERKLE, ids=lambda v: str(v["piece"]["length"]))
def test_merkle_trees(vector: dict[str, Any]) -> None:
    piece, root = plaintext(vector["piece"]), unhex(vector["root"])
    assert merkle_root(piece) == root
    index, path = vector["proof"]["leaf"], list(map(unhex, vector["proof"]["path"]))
    leaf = piece[index * 1024 : (index + 1) * 1024]
    assert verify_proof(root, len(piece), index, leaf, path)
    # by the page
    digest, siblings, count = sha256(b"\0" + leaf).digest(), iter(path), math.ceil(len(piece) / 1024)
    while count > 1:
        if index ^ 1 < count:
            sibling = next(siblings)
            digest = sha256(b"\1" + (sibling + digest if index & 1 else digest + sibling)).digest()
        index, count = index // 2, math.ceil(count / 2)
    assert digest == root
    assert next(siblings, None) is None
