"""The golden vector, read with nothing but docs/formats/snapshot.md: pycryptodome for AES and HKDF, the field by shift
and XOR. And written again by the program, as far as nothing in it is random."""

from __future__ import annotations

import itertools
import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from Crypto.Cipher import AES
from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF

from engine.snapshots.parts import Facts, SealedPart, shards_of
from erasure.scheme import Scheme
from tests.snapshots.world import keys_of

GOLDEN: dict[str, Any] = json.loads(Path(__file__).with_name("golden.json").read_text())
unhex = bytes.fromhex

# The reader that knows the page only.


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    derived = HKDF(key, 32, salt, SHA256, 1, info)
    assert isinstance(derived, bytes)
    return derived


ROOT = unhex(GOLDEN["root"])
DEPLOYMENT = unhex(GOLDEN["deployment"])
CONTENT_KEY = hkdf(ROOT, b"", b"atoll/root/snapshot/1")
HEADER_KEY = hkdf(ROOT, b"", b"atoll/root/snapshot-header/1")
LOCATOR_KEY = hkdf(ROOT, b"", b"atoll/root/snapshot-locator/1")


def read_name(name: str) -> tuple[int, int, int, int, int]:
    """chain, part, attempt, index, k"""
    tag = blake3(LOCATOR_KEY, derive_key_context="atoll/snapshot/prefix/1").digest(8).hex()
    assert name[:17] == "f" + tag[1:16] + "-"
    block = AES.new(LOCATOR_KEY, AES.MODE_ECB).decrypt(unhex(name[17:]))
    chain, rest = int.from_bytes(block[:6], "big"), struct.unpack(">IIBB", block[6:])
    return chain, *rest


def read_piece(name: str, piece: bytes) -> tuple[tuple[int, ...], tuple[Any, ...], bytes]:
    """What the name says, the header's fields, the shard."""
    chain, part, attempt, index, k = said = read_name(name)
    fields, seal, shard = piece[:131], piece[131:163], piece[163:]
    bound = DEPLOYMENT + struct.pack(">QIIBB", chain, part, attempt, index, k)
    assert blake3(bound + fields, key=HEADER_KEY).digest() == seal
    magic, version, *rest = struct.unpack(">8sBBBIQQI32s32s32s", fields)
    assert (magic, version) == (b"ATOLLSNP", 1)
    assert blake3(shard).digest() == rest[8]
    assert len(shard) == -(-rest[5] // k)
    return said, tuple(rest), shard


def multiply(a: int, b: int) -> int:
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a = a << 1 ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return product


def inverse(a: int) -> int:
    return next(b for b in range(256) if multiply(a, b) == 1)


def row(index: int, k: int) -> list[int]:
    """Of the code's matrix."""
    return [int(index == j) if index < k else inverse(index ^ j) for j in range(k)]


def solve(shards: dict[int, bytes], k: int) -> bytes:
    """The data shards, of any k, by elimination."""
    lines = [(row(index, k), list(shard)) for index, shard in shards.items()]
    for column in range(k):
        pivot = next(n for n in range(column, k) if lines[n][0][column])
        lines[column], lines[pivot] = lines[pivot], lines[column]
        factor = inverse(lines[column][0][column])
        lines[column] = scaled(lines[column], factor)
        for other in range(k):
            if other != column and (times := lines[other][0][column]):
                left, right = scaled(lines[column], times)
                lines[other] = (
                    [a ^ b for a, b in zip(lines[other][0], left, strict=True)],
                    [a ^ b for a, b in zip(lines[other][1], right, strict=True)],
                )
    return b"".join(bytes(values) for _, values in lines)


def scaled(line: tuple[list[int], list[int]], factor: int) -> tuple[list[int], list[int]]:
    return [multiply(factor, x) for x in line[0]], [multiply(factor, x) for x in line[1]]


def open_sealed(sealed: bytes, chain: int, part: int, header: tuple[Any, ...]) -> Any:
    """The part's record."""
    _, flags, lineage, sequence, time_us, _, previous, _, _ = header
    place = DEPLOYMENT + struct.pack(">QIBBIQQ", chain, part, 1, flags, lineage, sequence, time_us)
    cipher = AES.new(hkdf(CONTENT_KEY, sealed[:16], b"atoll/snapshot/part/1"), AES.MODE_GCM, nonce=bytes(12))
    cipher.update(b"atoll/snapshot/part/1" + place + previous)
    return msgspec.msgpack.decode(cipher.decrypt_and_verify(sealed[16:-16], sealed[-16:]))


@pytest.mark.parametrize("chosen", [0, 1, 5])
def test_the_page_is_enough_to_read_a_chain(chosen: int) -> None:
    """`chosen`: which of the ways to pick k of the shards."""
    link = blake3(b"atoll/snapshot/chain/1" + DEPLOYMENT + GOLDEN["chain"].to_bytes(8, "big")).digest()
    rows: dict[bytes, bytes] = {}
    for vector in GOLDEN["parts"]:
        k = vector["k"]
        picks = list(itertools.combinations(range(k + vector["m"]), k))
        shards: dict[int, bytes] = {}
        for index in picks[(chosen * 7) % len(picks)]:
            name, piece = vector["shards"][index]
            (chain, part, attempt, said_index, said_k), header, shard = read_piece(name, unhex(piece))
            assert (chain, part, attempt) == (GOLDEN["chain"], vector["part"], vector["attempt"])
            assert (said_index, said_k, header[0]) == (index, k, vector["m"])
            shards[index] = shard
        m, flags, lineage, sequence, time_us, length, previous, part_hash, _ = header
        assert (m, bool(flags), lineage) == (vector["m"], vector["point"], vector["lineage"])
        assert (sequence, time_us) == (vector["sequence"], vector["time_us"])
        assert previous == link
        sealed = solve(shards, k)[:length]
        assert blake3(sealed).digest() == part_hash == unhex(vector["hash"])
        link = part_hash
        version, record_flags, puts, deletes, epochs, ceiling = open_sealed(sealed, chain, part, header)
        assert (version, record_flags, ceiling) == (1, None, vector["ceiling"])
        assert [[key.hex(), value.hex()] for key, value in puts] == vector["puts"]
        assert [key.hex() for key in deletes] == vector["deletes"]
        assert [[key.hex(), value.hex()] for key, value in epochs] == vector["epochs"]
        rows |= dict(puts)
        for key in deletes:
            rows.pop(key, None)
    assert rows == {b"\x10first": b"other"}


def test_the_program_writes_the_same_shards() -> None:
    previous = blake3(b"atoll/snapshot/chain/1" + DEPLOYMENT + GOLDEN["chain"].to_bytes(8, "big")).digest()
    for vector in GOLDEN["parts"]:
        k, length = vector["k"], struct.unpack(">I", unhex(vector["shards"][0][1])[31:35])[0]
        sealed = b"".join(unhex(piece)[163:] for _, piece in vector["shards"][:k])[:length]
        facts = Facts(vector["point"], vector["lineage"], vector["sequence"], vector["time_us"])
        part = SealedPart(GOLDEN["chain"], vector["part"], facts, previous, sealed, unhex(vector["hash"]))
        shards = shards_of(keys_of(ROOT), DEPLOYMENT, part, Scheme(k, vector["m"]), vector["attempt"])
        assert [[name, (header + bytes(shard)).hex()] for name, header, shard in shards] == vector["shards"]
        previous = part.hash
