"""Records of the engine's metadata half, and how values are packed in them.

Arrays on disk: field order is the format, new fields go last with a default. Top-level rows are stored through
`catalog.records`, which adds the version byte and the two bit sets; plain structs travel inside rows.
"""

from __future__ import annotations

import msgspec

from catalog.records import Codec, Record
from engine.types import Bucket, ChecksumType, ObjectAttributes, Versioning

NULL = 1  # flag of a version: it is the null version
MARKER = 2  # flag of a version: it is a delete marker

#: Bit numbers of checksum algorithms in a ListRow. Only ever appended to.
ALGORITHMS = (
    "CRC32",
    "CRC32C",
    "CRC64NVME",
    "SHA1",
    "SHA256",
    "SHA512",
    "MD5",
    "XXHASH64",
    "XXHASH3",
    "XXHASH128",
)
_BITS = {name: 1 << bit for bit, name in enumerate(ALGORITHMS)}
_SETS: dict[int, tuple[str, ...]] = {1 << bit: (name,) for bit, name in enumerate(ALGORITHMS)} | {0: ()}

_CHECKSUM_TYPES: tuple[ChecksumType | None, ...] = (None, ChecksumType.FULL_OBJECT, ChecksumType.COMPOSITE)
_VERSIONINGS = (Versioning.UNVERSIONED, Versioning.ENABLED, Versioning.SUSPENDED)

_HEX = frozenset("0123456789abcdef")


class Attributes(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """ObjectAttributes. `owner` is packed by `pack_owner`; "" is the storage class STANDARD."""

    owner: bytes
    acl: str
    storage_class: str
    headers: dict[str, str]
    metadata: dict[str, str]
    tags: tuple[tuple[str, str], ...]


class Version(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """One version. `token` is its order (u64, wall-clock µs: also its Last-Modified) and 8 random bytes.

    The bytes are the one whole body `body` (then the manifest id, where one is needed, is the body id), or a manifest
    in rows of its own (`manifest`); a delete marker has neither. `wrapped` is the content key, wrapped on this
    reference. The body or manifest is referred to by the token.
    """

    token: bytes
    flags: int
    size: int
    etag: bytes  # pack_etag
    attributes: Attributes
    checksums: dict[str, str]
    checksum_type: int
    parts: int
    body: bytes
    manifest: bytes
    wrapped: bytes


class Extent(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """A run of a body's plaintext. `wrapped` is the body key, wrapped under the manifest's content key, where the body
    came from another manifest; empty where the key is derived from this one's."""

    body: bytes
    body_length: int
    offset: int
    length: int
    number: int  # of the part
    wrapped: bytes = b""


class PartEntry(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """A part of a finished manifest."""

    number: int
    offset: int
    size: int
    etag: bytes
    checksums: dict[str, str]
    modified_us: int


class BucketRow(Record, tag=1, kw_only=True, frozen=True):
    """A bucket, but for its id, which is in the key."""

    name: str
    owner: str
    created_us: int
    location: str
    versioning: int
    acl: str
    settings: dict[str, bytes]


class HeadRow(Record, tag=1, kw_only=True, frozen=True):
    """What a key is now. A tombstone has order alone: it keeps order growing over a delete for a while."""

    order: int
    null_order: int = 0  # order of the null version, 0 for none
    current: Version | None = None


class VersionRow(Record, tag=1, kw_only=True, frozen=True):
    version: Version


class ListRow(Record, tag=1, kw_only=True, frozen=True):
    """What a listing prints of a version."""

    token: bytes
    kind: int  # NULL, MARKER
    size: int
    etag: bytes
    owner: bytes
    storage_class: str
    algorithms: int
    checksum_type: int


class UploadRow(Record, tag=1, kw_only=True, frozen=True):
    """A multipart upload. Its parts' content key is wrapped for manifest id = upload id, length 0.

    `completed` is the version that it became; then `included` has bit n set where part n went into it, and
    `fingerprint` tells the list of parts that the client named.
    """

    bucket: bytes
    key: bytes
    initiator: str
    attributes: Attributes
    checksum_algorithm: str
    checksum_type: int
    wrapped: bytes
    completed: Version | None = None
    included: bytes = b""
    fingerprint: bytes = b""


class PartRow(Record, tag=1, kw_only=True, frozen=True):
    """A part of an upload in progress: the attempt that was committed last."""

    size: int
    etag: bytes
    checksums: dict[str, str]
    modified_us: int
    extents: tuple[Extent, ...]


class ManifestRow(Record, tag=1, kw_only=True, frozen=True):
    size: int
    parts: int


class ExtentsRow(Record, tag=1, kw_only=True, frozen=True):
    """Consecutive extents of a manifest; `offset` is where the first begins in the object."""

    offset: int
    extents: tuple[Extent, ...]


class PartsRow(Record, tag=1, kw_only=True, frozen=True):
    parts: tuple[PartEntry, ...]


BUCKET_ROW = Codec(BucketRow)
HEAD_ROW = Codec(HeadRow)
VERSION_ROW = Codec(VersionRow)
LIST_ROW = Codec(ListRow)
UPLOAD_ROW = Codec(UploadRow)
PART_ROW = Codec(PartRow)
MANIFEST_ROW = Codec(ManifestRow)
EXTENTS_ROW = Codec(ExtentsRow)
PARTS_ROW = Codec(PartsRow)


def pack_etag(etag: str) -> bytes:
    """An MD5 in hex as its 16 bytes, a multipart ETag as 16 bytes ‖ "-N", anything else as 17 zero bytes ‖ text."""
    try:
        if etag[32:33] in ("", "-") and _HEX.issuperset(etag[:32]):
            raw = bytes.fromhex(etag[:32])
            if len(raw) == 16:
                return raw + etag[32:].encode()
    except ValueError:
        pass
    return bytes(17) + etag.encode()


def unpack_etag(packed: bytes) -> str:
    if len(packed) == 16:
        return packed.hex()
    if packed[16:17] == b"-":
        return packed[:16].hex() + packed[16:].decode()
    return packed[17:].decode()


def pack_owner(owner: str, bucket_owner: str) -> bytes:
    """Empty for the bucket's owner, a canonical id as its 32 bytes, anything else as 33 zero bytes ‖ text."""
    if owner == bucket_owner:
        return b""
    if len(owner) == 64 and _HEX.issuperset(owner):
        return bytes.fromhex(owner)
    return bytes(33) + owner.encode()


def unpack_owner(packed: bytes, bucket_owner: str) -> str:
    if not packed:
        return bucket_owner
    if len(packed) == 32:
        return packed.hex()
    return packed[33:].decode()


def pack_checksum_type(value: ChecksumType | None) -> int:
    return 0 if value is None else 1 if value is ChecksumType.FULL_OBJECT else 2


def unpack_checksum_type(value: int) -> ChecksumType | None:
    return _CHECKSUM_TYPES[value]


def pack_algorithms(checksums: dict[str, str]) -> int:
    """The algorithms of a checksum set as bits. Raises KeyError for one without a bit."""
    bits = 0
    for name in checksums:
        bits |= _BITS[name]
    return bits


def unpack_algorithms(bits: int) -> tuple[str, ...]:
    known = _SETS.get(bits)
    if known is None:
        known = tuple(name for name in ALGORITHMS if _BITS[name] & bits)
    return known


def pack_attributes(attributes: ObjectAttributes, bucket_owner: str) -> Attributes:
    storage_class = attributes.storage_class
    return Attributes(
        pack_owner(attributes.owner, bucket_owner),
        attributes.acl,
        "" if storage_class == "STANDARD" else storage_class,
        attributes.headers,
        attributes.metadata,
        attributes.tags,
    )


def unpack_attributes(packed: Attributes, bucket_owner: str) -> ObjectAttributes:
    return ObjectAttributes(
        unpack_owner(packed.owner, bucket_owner) if packed.owner else bucket_owner,
        packed.acl,
        packed.storage_class or "STANDARD",
        packed.headers,
        packed.metadata,
        packed.tags,
    )


def list_row(version: Version) -> bytes:
    """The listing row of a version."""
    attributes = version.attributes
    return LIST_ROW.encode_new(
        ListRow(
            token=version.token,
            kind=version.flags,
            size=version.size,
            etag=version.etag,
            owner=attributes.owner,
            storage_class=attributes.storage_class,
            algorithms=pack_algorithms(version.checksums),
            checksum_type=version.checksum_type,
        )
    )


def versioning_code(versioning: Versioning) -> int:
    return _VERSIONINGS.index(versioning)


def bucket_value(bucket_id: bytes, row: BucketRow) -> Bucket:
    return Bucket(
        bucket_id,
        row.name,
        row.owner,
        row.created_us,
        row.location,
        _VERSIONINGS[row.versioning],
        row.acl,
        row.settings,
    )
