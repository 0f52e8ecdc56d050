"""Writes the golden vectors of docs/formats/object.md. Run it only to add vectors: what is published never changes.

`python tests/vectors/object/generate.py` rewrites the JSON files beside it, byte for byte the same each time.
"""

from __future__ import annotations

import json
import struct
from hashlib import sha256
from pathlib import Path

from erasure.frames import FRAME_PLAIN, sealed_length
from erasure.keys import body_key, wrap_body_key, wrap_content_key
from erasure.merkle import LEAF, MerkleBuilder, merkle_proof
from erasure.piece import build_pieces
from erasure.portable import PortableCodec
from erasure.scheme import Scheme
from erasure.seal import BodySealer

HERE = Path(__file__).parent
CODEC = PortableCodec()
SCHEMES = ("4+2", "1+2", "2+2", "3+2", "6+3", "10+4", "16+16", "31+1")


def plaintext(label: str, length: int) -> bytes:
    """The format's named plaintexts."""
    blocks = (sha256(label.encode() + struct.pack(">Q", i)).digest() for i in range(-(-length // 32)))
    return b"".join(blocks)[:length]


def seal(content_key: bytes, body_id: bytes, plain: bytes) -> bytes:
    out = bytearray(sealed_length(len(plain)))
    BodySealer(body_key(content_key, body_id), body_id).seal(0, plain, out, last=True)
    return bytes(out)


def keys() -> dict[str, object]:
    bucket_key, content_key = plaintext("bucket key", 32), plaintext("content key", 32)
    bucket_id, manifest_id = plaintext("bucket id", 16), plaintext("manifest id", 16)
    bodies = [plaintext(f"body id {i}", 16) for i in range(3)]
    length, salt = 5_000_000_001, plaintext("salt", 16)
    other = plaintext("other content key", 32)
    return {
        "body_keys": [
            {"content_key": content_key.hex(), "body_id": body.hex(), "body_key": body_key(content_key, body).hex()}
            for body in bodies
        ],
        "content_key_wrap": {
            "bucket_key": bucket_key.hex(),
            "bucket_id": bucket_id.hex(),
            "manifest_id": manifest_id.hex(),
            "plain_length": length,
            "content_key": content_key.hex(),
            "wrapped": wrap_content_key(
                bucket_key, content_key, bucket_id=bucket_id, manifest_id=manifest_id, plain_length=length, salt=salt
            ).hex(),
        },
        "body_key_wrap": {
            "content_key": other.hex(),
            "body_id": bodies[0].hex(),
            "body_key": body_key(content_key, bodies[0]).hex(),
            "wrapped": wrap_body_key(other, body_key(content_key, bodies[0]), body_id=bodies[0], salt=salt).hex(),
        },
    }


def seals() -> list[dict[str, object]]:
    vectors: list[dict[str, object]] = []
    content_key = plaintext("content key", 32)
    lengths = [0, 1, 16, FRAME_PLAIN - 1, FRAME_PLAIN, FRAME_PLAIN + 1, 2 * FRAME_PLAIN, 3 * FRAME_PLAIN + 12_345]
    for length in lengths:
        body_id = plaintext(f"body {length}", 16)
        sealed = seal(content_key, body_id, plaintext(f"plaintext {length}", length))
        vectors.append(
            {
                "content_key": content_key.hex(),
                "body_id": body_id.hex(),
                "plaintext": {"label": f"plaintext {length}", "length": length},
                "sealed_length": len(sealed),
                "sealed_sha256": sha256(sealed).hexdigest(),
                "first_64": sealed[:64].hex(),
            }
        )
    return vectors


def codes() -> dict[str, object]:
    stripes: list[dict[str, object]] = []
    for name in SCHEMES:
        scheme = Scheme.parse(name)
        data = [plaintext(f"shard {i} of {name}", 19) for i in range(scheme.k)]
        parity = [bytearray(19) for _ in range(scheme.m)]
        CODEC.encode(scheme, data, parity)
        stripes.append(
            {"k": scheme.k, "m": scheme.m, "data": [d.hex() for d in data], "parity": [p.hex() for p in parity]}
        )
    return {"frames_per_shard": {str(k): Scheme(k, 0).frames_per_shard for k in range(1, 33)}, "stripes": stripes}


def segments() -> dict[str, object]:
    content_key = plaintext("content key", 32)
    small_id, small = plaintext("small body", 16), plaintext("small", 217)
    sealed = seal(content_key, small_id, small)
    shape = Scheme(4, 2).shape(len(sealed), 24)
    pieces = build_pieces(CODEC, plaintext("small segment", 16), shape, sealed)
    large_id, length = plaintext("large body", 16), 2 * (1 << 20) + 200_003
    large_sealed = seal(content_key, large_id, plaintext("large", length))
    large: list[dict[str, object]] = []
    for name in ("4+2", "6+3", "1+2"):
        scheme = Scheme.parse(name)
        segment_id = plaintext(f"large segment {name}", 16)
        large_shape = scheme.shape(len(large_sealed))
        large.append(
            {
                "k": scheme.k,
                "m": scheme.m,
                "shard_size": large_shape.shard_size,
                "segment_id": segment_id.hex(),
                "pieces": [
                    {
                        "length": len(piece.data),
                        "sha256": sha256(piece.data).hexdigest(),
                        "footer": piece.data[large_shape.shards_size :].hex(),
                        "piece_hash": piece.digest.hex(),
                    }
                    for piece in build_pieces(CODEC, segment_id, large_shape, large_sealed)
                ],
            }
        )
    return {
        "small": {
            "content_key": content_key.hex(),
            "body_id": small_id.hex(),
            "plaintext": {"label": "small", "length": len(small)},
            "segment_id": plaintext("small segment", 16).hex(),
            "k": 4,
            "m": 2,
            "shard_size": 24,
            "sealed_length": len(sealed),
            "pieces": [{"data": piece.data.hex(), "piece_hash": piece.digest.hex()} for piece in pieces],
        },
        "large": {
            "content_key": content_key.hex(),
            "body_id": large_id.hex(),
            "plaintext": {"label": "large", "length": length},
            "sealed_length": len(large_sealed),
            "segments": large,
        },
    }


def trees() -> list[dict[str, object]]:
    vectors: list[dict[str, object]] = []
    for length in (1, LEAF - 1, LEAF, LEAF + 1, 2 * LEAF, 3 * LEAF + 5, 7 * LEAF, 11 * LEAF + 1023):
        piece = plaintext(f"piece {length}", length)
        builder = MerkleBuilder(keep=True)
        builder.update(piece)
        leaves = builder.leaf_hashes()
        index = len(leaves) * 2 // 3
        vectors.append(
            {
                "piece": {"label": f"piece {length}", "length": length},
                "root": builder.root().hex(),
                "proof": {"leaf": index, "path": [digest.hex() for digest in merkle_proof(leaves, index)]},
            }
        )
    return vectors


def documents() -> dict[str, object]:
    """File name → content."""
    return {
        "keys.json": keys(),
        "seal.json": seals(),
        "code.json": codes(),
        "segment.json": segments(),
        "merkle.json": trees(),
    }


if __name__ == "__main__":
    for name, document in documents().items():
        (HERE / name).write_text(json.dumps(document, indent=1) + "\n")
