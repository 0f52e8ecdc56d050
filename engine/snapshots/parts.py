"""A part of a snapshot chain: its content, its seal, its shards. Pure; spec: docs/formats/snapshot.md.

A chain is a line of parts. Each is sealed under a key of its own, bound to the deployment, the chain, its place in it
and the hash of the part before; then coded into shards, each behind a header whose own seal names a forger.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from catalog.errors import Corrupt, FutureVersion
from catalog.records import Codec as RecordCodec
from catalog.records import Record
from core.buffers import Buffer
from engine.errors import EngineError
from engine.snapshots.keys import ShardName, SnapshotKeys
from erasure.codecs import default_codec
from erasure.scheme import Scheme

FORMAT: Final = 1
MAGIC: Final = b"ATOLLSNP"
#: A sealed part is at most this long; writers end parts far below.
MAX_SEALED: Final = 64 << 20

_POINT: Final = 1
_SALT: Final = 16
_NONCE: Final = bytes(12)
_FACTS: Final = struct.Struct(">IQQ")  # lineage, sequence, time
#: magic, format, m, flags, lineage, sequence, time, sealed length, previous hash, part hash, shard hash
_HEADER: Final = struct.Struct(">8sBBBIQQI32s32s32s")
_SEAL: Final = 32
_PLACE: Final = struct.Struct(">QI")  # chain, part

HEADER_LENGTH: Final = _HEADER.size + _SEAL


class SnapshotDamaged(EngineError):
    """A shard or a part that is not what its writer made: forged, altered, swapped, of another chain or cut short."""


class Content(Record, tag=1, kw_only=True, frozen=True):
    """What a part says: rows to put, keys to delete, and for a point all rows of epochs as they were."""

    puts: list[tuple[bytes, bytes]] = msgspec.field(default_factory=list)
    deletes: list[bytes] = msgspec.field(default_factory=list)
    epochs: list[tuple[bytes, bytes]] = msgspec.field(default_factory=list)
    ceiling: int = 0  # a restored catalog goes on behind this sequence; 0 where no point is


CONTENT: Final = RecordCodec(Content)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a part's header says of it in the clear. `point`: with this part the chain shows one state of the catalog,
    all commits up to `sequence` and, in full, those after that it shows. `lineage` counts restores of the deployment:
    sequences compare within one only. `time_us`: when the part's rows were read."""

    point: bool
    lineage: int
    sequence: int
    time_us: int

    @property
    def order(self) -> tuple[int, int, int]:
        """Newer states are larger, without asking clocks first."""
        return self.lineage, self.sequence, self.time_us


@dataclass(frozen=True, slots=True)
class Header:
    """A shard's header, its seal checked."""

    facts: Facts
    m: int
    sealed_length: int
    previous: bytes
    part_hash: bytes
    shard_hash: bytes


@dataclass(frozen=True, slots=True)
class SealedPart:
    """One part, sealed. `hash` is what the next one is bound to."""

    chain: int
    part: int
    facts: Facts
    previous: bytes
    sealed: bytes
    hash: bytes


def first_link(deployment: bytes, chain: int) -> bytes:
    """What the first part of a chain is bound to in place of a part before."""
    return blake3(b"atoll/snapshot/chain/1" + deployment + chain.to_bytes(8, "big")).digest()


def _context(deployment: bytes, chain: int, part: int, facts: Facts) -> bytes:
    flags = bytes((FORMAT, _POINT if facts.point else 0))
    numbers = _FACTS.pack(facts.lineage, facts.sequence, facts.time_us)
    return b"atoll/snapshot/part/1" + deployment + _PLACE.pack(chain, part) + flags + numbers


def seal_part(
    keys: SnapshotKeys, deployment: bytes, chain: int, part: int, facts: Facts, previous: bytes, content: Content
) -> SealedPart:
    """Seal a part's content under a fresh key."""
    salt = os.urandom(_SALT)
    bound = _context(deployment, chain, part, facts) + previous
    sealed = salt + AESGCM(keys.part_key(salt)).encrypt(_NONCE, CONTENT.encode(content), bound)
    return SealedPart(chain, part, facts, previous, sealed, blake3(sealed).digest())


def open_part(keys: SnapshotKeys, deployment: bytes, part: SealedPart) -> Content:
    """The content. Raises SnapshotDamaged, FutureVersion for one of a later program."""
    salt, box = part.sealed[:_SALT], part.sealed[_SALT:]
    bound = _context(deployment, part.chain, part.part, part.facts) + part.previous
    try:
        plain = AESGCM(keys.part_key(salt)).decrypt(_NONCE, box, bound)
    except InvalidTag:
        raise SnapshotDamaged(f"part {part.part} of chain {part.chain} does not open") from None
    try:
        return CONTENT.decode(plain)
    except FutureVersion:
        raise
    except Corrupt as error:
        raise SnapshotDamaged(f"part {part.part} of chain {part.chain}: {error}") from None


def shards_of(
    keys: SnapshotKeys, deployment: bytes, part: SealedPart, scheme: Scheme, attempt: int
) -> list[tuple[str, bytes, Buffer]]:
    """The k + m shards of a part, by index: piece name, header, shard."""
    length = -(-len(part.sealed) // scheme.k)
    padded = part.sealed.ljust(length * scheme.k, b"\0")
    data: list[Buffer] = [memoryview(padded)[i * length : (i + 1) * length] for i in range(scheme.k)]
    parity: list[Buffer] = [bytearray(length) for _ in range(scheme.m)]
    default_codec().encode(scheme, data, parity)
    found: list[tuple[str, bytes, Buffer]] = []
    for index, shard in enumerate([*data, *parity]):
        name = ShardName(part.chain, part.part, attempt, index, scheme.k)
        facts = part.facts
        fields = _HEADER.pack(
            MAGIC, FORMAT, scheme.m, _POINT if facts.point else 0, facts.lineage, facts.sequence, facts.time_us,
            len(part.sealed), part.previous, part.hash, blake3(shard).digest(),
        )  # fmt: skip
        found.append((keys.name(name), fields + keys.seal_header(_bound(deployment, name), fields), shard))
    return found


def _bound(deployment: bytes, name: ShardName) -> bytes:
    return deployment + _PLACE.pack(name.chain, name.part) + struct.pack(">IBB", name.attempt, name.index, name.k)


def read_header(keys: SnapshotKeys, deployment: bytes, name: ShardName, data: Buffer) -> Header:
    """Check and take apart what a shard begins with. Raises SnapshotDamaged, FutureVersion."""
    raw = bytes(data)
    fields, seal = raw[: _HEADER.size], raw[_HEADER.size : HEADER_LENGTH]
    if len(raw) < HEADER_LENGTH or not raw.startswith(MAGIC):
        raise SnapshotDamaged("a shard of a snapshot has no header")
    if keys.seal_header(_bound(deployment, name), fields) != seal:
        raise SnapshotDamaged("a shard's header is forged, damaged, or of another place")
    _, version, m, flags, lineage, sequence, time_us, length, previous, part_hash, shard_hash = _HEADER.unpack(fields)
    if version > FORMAT:
        raise FutureVersion(f"the snapshot has format {version}, this program reads up to {FORMAT}: use a newer one")
    if not _SALT < length <= MAX_SEALED or name.k < 1 or name.index >= name.k + m:
        raise SnapshotDamaged("a shard's header says what no writer wrote")
    return Header(Facts(bool(flags & _POINT), lineage, sequence, time_us), m, length, previous, part_hash, shard_hash)


def shard_length(header: Header, k: int) -> int:
    """Bytes of each shard of the part."""
    return -(-header.sealed_length // k)


def is_sound(header: Header, k: int, shard: Buffer) -> bool:
    """Whether these are the bytes that the header was made for."""
    return memoryview(shard).nbytes == shard_length(header, k) and blake3(shard).digest() == header.shard_hash


def join(name: ShardName, header: Header, shards: Mapping[int, Buffer]) -> SealedPart:
    """The part, of any k sound shards by index. Raises SnapshotDamaged where they don't give the part's hash."""
    k, length = name.k, shard_length(header, name.k)
    have = dict(shards)
    missing = {index: bytearray(length) for index in range(k) if index not in have}
    if missing:
        default_codec().reconstruct(Scheme(k, header.m), have, missing)
    whole = b"".join(have.get(index, missing.get(index, b"")) for index in range(k))[: header.sealed_length]
    if blake3(whole).digest() != header.part_hash:
        raise SnapshotDamaged(f"part {name.part} of chain {name.chain} is not what its headers say")
    return SealedPart(name.chain, name.part, header.facts, header.previous, whole, header.part_hash)
