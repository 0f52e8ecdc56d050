"""What the codec costs, stripe by stripe, beside the physical limit of each step.

`python bench/codec.py [--seconds 0.3]` prints GB of plaintext per second on one thread, and the ratio to its limit: the
same library called once over the whole stripe, a memory copy of the same bytes, or MD5 (which bounds any PUT that
answers with an MD5 ETag). Medians of several rounds, interleaved, so that a busy machine weighs on all alike.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import time
from collections.abc import Callable, Mapping

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.buffers import Buffer
from erasure.codec import Codec
from erasure.codecs import default_codec
from erasure.footer import shard_hash
from erasure.liberasurecode import LiberasurecodeCodec
from erasure.merkle import merkle_root
from erasure.portable import PortableCodec
from erasure.scheme import Scheme
from erasure.seal import BodyOpener, BodySealer
from erasure.stripe import code_stripe, seal_stripe, shards_of, stripe_room

SCHEME = Scheme(4, 2)
ROUNDS = 7


def steps() -> dict[str, tuple[Callable[[], object], str]]:
    """Step → (one stripe's work, name of its limit; empty for a limit itself)."""
    plain = os.urandom(SCHEME.stripe_plain)
    key, body = os.urandom(32), os.urandom(16)
    aead, codec = AESGCM(key), default_codec()
    sealer, opener = BodySealer(key, body), BodyOpener(key, body, 1 << 40)
    room = memoryview(bytearray(stripe_room(SCHEME)))
    sealed, out = memoryview(bytearray(SCHEME.stripe_size)), memoryview(bytearray(SCHEME.stripe_plain))
    raw = bytearray(len(plain) + 16)
    sealer.seal(0, plain, sealed, last=False)
    room[: len(sealed)] = sealed
    code_stripe(codec, SCHEME, room, len(sealed))
    shards = shards_of(SCHEME, room, len(sealed))
    spare = [bytearray(SCHEME.shard_size) for _ in range(2)]

    def copy() -> None:
        out[:] = plain

    def encode(codec: Codec) -> Callable[[], object]:
        return lambda: codec.encode(SCHEME, shards[: SCHEME.k], spare)

    def decode(codec: Codec) -> Callable[[], object]:
        have: Mapping[int, Buffer] = {i: shards[i] for i in (1, 3, 4, 5)}
        return lambda: codec.reconstruct(SCHEME, have, {0: spare[0], 2: spare[1]})

    return {
        "memcpy": (copy, ""),
        "md5": (lambda: hashlib.md5(plain).digest(), ""),
        "sha-256": (lambda: hashlib.sha256(plain).digest(), ""),
        "aes-256-gcm, one call": (lambda: aead.encrypt_into(bytes(12), plain, None, raw), ""),
        "blake3, one call of 4+2 shards": (lambda: blake3(room).digest(), ""),
        "seal": (lambda: sealer.seal(0, plain, sealed, last=False), "aes-256-gcm, one call"),
        "open": (lambda: opener.open(0, room[: SCHEME.stripe_size], out), "aes-256-gcm, one call"),
        "open, four shards": (lambda: opener.open_scattered(0, shards[: SCHEME.k], out), "aes-256-gcm, one call"),
        "hash 6 shards": (lambda: [shard_hash(s) for s in shards], "blake3, one call of 4+2 shards"),
        f"encode 4+2, {codec.name}": (encode(codec), "memcpy"),
        f"decode 2 lost, {codec.name}": (decode(codec), "memcpy"),
        "encode 4+2, liberasurecode": (encode(LiberasurecodeCodec()), "memcpy"),
        "encode 4+2, portable": (encode(PortableCodec()), "memcpy"),
        "decode 2 lost, portable": (decode(PortableCodec()), "memcpy"),
        "PUT's stripe: seal, encode, hash": (
            lambda: seal_stripe(codec, SCHEME, sealer, 0, plain, room, last=False),
            "md5",
        ),
        "merkle root": (lambda: merkle_root(plain), "sha-256"),
    }


def measure(work_of: Mapping[str, tuple[Callable[[], object], str]], seconds: float) -> dict[str, float]:
    """Step → median GB of plaintext per second."""
    rates: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, (work, _) in work_of.items():
            count, begin = 0, time.perf_counter()
            while (spent := time.perf_counter() - begin) < seconds / ROUNDS:
                work()
                count += 1
            rates.setdefault(name, []).append(count * SCHEME.stripe_plain / spent / 1e9)
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.3, help="for each step")
    seconds = parser.parse_args().seconds
    table = steps()
    rates = measure(table, seconds)
    print(f"{'step, 1 MiB stripes of 4+2, one thread':40} {'GB/s':>8} {'ratio':>7}  limit")
    for name, (_, limit) in table.items():
        ratio = f"{rates[name] / rates[limit]:7.2f}  {limit}" if limit else ""
        print(f"{name:40} {rates[name]:8.2f} {ratio}")


if __name__ == "__main__":
    main()
