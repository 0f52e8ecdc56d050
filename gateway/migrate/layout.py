"""Keys and records of migrations in the catalog.

Every key is `MIGRATE ‖ kind ‖ job id ‖ ...`:

| kind | key after it | value |
|---|---|---|
| JOB | | JobRow |
| PENDING | key | engine's ListRow as the source listed it: a key that is still to come |
| ORIGIN | key hash | OriginRow: what a key's version here was copied from |
| TOMB | key hash | empty: the key was deleted here and must not come back |
| NOTE | key (shortened) | NoteRow: what there is to tell the operator of a key |

A bucket that is being filled names its job in `Bucket.settings`, so that whatever changes one of its keys can tell in
its own transaction, without another read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
from blake3 import blake3

from catalog.keys import u64
from catalog.prefixes import MIGRATE
from catalog.records import Codec, Record
from engine.layout import key_hash
from engine.records import LIST_ROW, NULL, ListRow, pack_etag
from engine.types import Bucket

JOB: Final = MIGRATE + b"j"
PENDING: Final = MIGRATE + b"p"
ORIGIN: Final = MIGRATE + b"o"
TOMB: Final = MIGRATE + b"t"
NOTE: Final = MIGRATE + b"n"

#: The name in `Bucket.settings`; no subresource of S3 begins with a dash.
SETTING: Final = "-migration"
ID: Final = 8
_READ_THROUGH = b"r"

#: Longest part of a source's key in a NOTE row's key; a longer one is told by its hash.
_NOTE_KEY = 1500

#: States of a job. Only RUNNING ones work; ENDED ones keep their report and nothing else.
RUNNING, PAUSED, COMPLETE, ENDING, ENDED = "running", "paused", "complete", "ending", "ended"
LISTING, COPYING = "listing", "copying"

#: Kinds of notes.
FAILED, KEPT, UNVERIFIED = "failed", "kept", "unverified"


class SourceSpec(msgspec.Struct, array_like=True, frozen=True):
    """Where a bucket lies. `sealed` holds secret key and session token; without an access key requests are unsigned."""

    url: str
    bucket: str
    region: str
    virtual_host: bool = False
    access_key_id: str = ""
    sealed: bytes = b""


class JobRow(Record, tag=1, kw_only=True, frozen=True):
    """One migration. `token` is where the listing of this pass goes on; `bandwidth` is bytes a second, 0 for no limit;
    `patience` is how many seconds the source may be silent before the job pauses."""

    created_us: int
    updated_us: int
    source: SourceSpec
    target: str
    target_id: bytes
    prefix: str = ""
    concurrency: int = 8
    bandwidth: int = 0
    patience: float = 120.0
    read_through: bool = False
    md5_etags: bool = True  # whether an ETag of 32 hex digits is the MD5 of the bytes
    state: str = RUNNING
    reason: str = ""
    phase: str = LISTING
    passes: int = 1
    queued: int = 0  # keys that this pass found missing or changed
    token: str = ""
    listed_once: bool = False  # every key of the source that was there at the start is known here
    tallies: dict[str, int] = msgspec.field(default_factory=dict)


class OriginRow(Record, tag=1, kw_only=True, frozen=True):
    """What was copied: the source's ETag, size and time, and the time of our version, which tells it from all others
    that the key had or will have."""

    etag: bytes
    size: int
    modified_us: int
    version_us: int


class NoteRow(Record, tag=1, kw_only=True, frozen=True):
    kind: str
    key: str
    reason: str
    at_us: int
    etag: bytes = b""


JOB_ROW: Final = Codec(JobRow)
ORIGIN_ROW: Final = Codec(OriginRow)
NOTE_ROW: Final = Codec(NoteRow)


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as the source lists it. The ETag is bare; `modified_us` is 0 where it isn't known."""

    key: str
    size: int
    etag: str
    modified_us: int
    storage_class: str = "STANDARD"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a bucket's settings say of its migration."""

    job_id: bytes
    read_through: bool

    def document(self) -> bytes:
        return self.job_id + (_READ_THROUGH if self.read_through else b"-")


def mark_of(bucket: Bucket) -> Mark | None:
    """The migration that fills the bucket, if there is one."""
    document = bucket.settings.get(SETTING)
    return None if document is None else Mark(document[:ID], document[ID:] == _READ_THROUGH)


def job_key(job_id: bytes) -> bytes:
    return JOB + job_id


def pending_key(job_id: bytes, key: bytes) -> bytes:
    return PENDING + job_id + key


def origin_key(job_id: bytes, bucket_id: bytes, key: bytes) -> bytes:
    return ORIGIN + job_id + key_hash(bucket_id, key)


def tomb_key(job_id: bytes, bucket_id: bytes, key: bytes) -> bytes:
    return TOMB + job_id + key_hash(bucket_id, key)


def note_key(job_id: bytes, key: bytes) -> bytes:
    if len(key) > _NOTE_KEY:
        key = key[:_NOTE_KEY] + blake3(key).digest(16)
    return NOTE + job_id + key


def pending_row(entry: Entry) -> bytes:
    """The listing row of a key that is still to come: it lists like an object, under the source's time."""
    row = ListRow(
        token=u64(max(entry.modified_us, 0)) + bytes(8),
        kind=NULL,
        size=entry.size,
        etag=pack_etag(entry.etag),
        owner=b"",
        storage_class="" if entry.storage_class == "STANDARD" else entry.storage_class,
        algorithms=0,
        checksum_type=0,
    )
    return LIST_ROW.encode(row)
