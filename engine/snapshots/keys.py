"""What the root key gives to snapshots: keys of parts, the seal of shards' headers, names that only it reads.

Spec: docs/formats/snapshot.md, "Keys" and "Names".
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from core.ids import snapshot_prefix

#: Gives the 32-byte key for a purpose; of the root key alone.
Derive = Callable[[bytes], bytes]

MAX_ATTEMPT: Final = 1 << 32

_NAME: Final = struct.Struct(">6sIIBB")  # chain u48, part, attempt, index, k
_TAG_LENGTH: Final = 8


@dataclass(frozen=True, slots=True, order=True)
class ShardName:
    """What a name says: shard `index` of a part coded with `k` data shards. A part may be written more than once, by
    attempts of its own; `chain` is a number of 48 bits that grows from chain to chain."""

    chain: int
    part: int
    attempt: int
    index: int
    k: int


class SnapshotKeys:
    """The keys of all snapshots under one root key."""

    def __init__(self, derive: Derive) -> None:
        self._content = derive(b"snapshot/1")
        self._header = derive(b"snapshot-header/1")
        locator = derive(b"snapshot-locator/1")
        # One block is a permutation of 128 bits: neither mode nor nonce matters, and no two names are of one block.
        self._block = Cipher(AES(locator), ECB())  # noqa: S305
        #: What the names of all shards under this root key begin with: 16 hex digits and a dash.
        self.prefix = snapshot_prefix(blake3(locator, derive_key_context="atoll/snapshot/prefix/1").digest(_TAG_LENGTH))

    def part_key(self, salt: bytes) -> bytes:
        """The key that seals one part, made with a fresh `salt`: it never seals another."""
        return HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"atoll/snapshot/part/1").derive(self._content)

    def seal_header(self, context: bytes, fields: bytes) -> bytes:
        """The 32-byte seal of a shard's header."""
        return blake3(context + fields, key=self._header).digest()

    def name(self, shard: ShardName) -> str:
        """The piece name of a shard."""
        encryptor = self._block.encryptor()
        block = _NAME.pack(shard.chain.to_bytes(6, "big"), shard.part, shard.attempt, shard.index, shard.k)
        return self.prefix + (encryptor.update(block) + encryptor.finalize()).hex()

    def read_name(self, name: str) -> ShardName | None:
        """What a listed name says; None for one that is not a snapshot's under this root key. A forged name says
        nonsense: only the header behind it proves anything."""
        if not name.startswith(self.prefix):
            return None
        try:
            sealed = bytes.fromhex(name[len(self.prefix) :])
        except ValueError:
            return None
        if len(sealed) != _NAME.size:
            return None
        decryptor = self._block.decryptor()
        chain, part, attempt, index, k = _NAME.unpack(decryptor.update(sealed) + decryptor.finalize())
        return ShardName(int.from_bytes(chain, "big"), part, attempt, index, k)


def new_attempt() -> int:
    """The number of an attempt: random, so that no name is used twice."""
    return secrets.randbelow(MAX_ATTEMPT)
