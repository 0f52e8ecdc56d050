"""Every key and record of accounts in the catalog.

    20 "u" name            -> UserRecord (with its keys; secrets sealed)
    20 "k" access key id   -> name of the key's user, so that no two users share one
    20 "i" canonical id    -> name of the id's user
    20 "q" canonical id    -> QuotaRecord, once the user was given a quota

Records are those of `catalog.records`: versioned, fields only ever added at the end.
"""

from __future__ import annotations

import msgspec

from catalog.prefixes import ACCOUNTS
from catalog.records import Codec, Record

USERS = ACCOUNTS + b"u"
USERS_END = ACCOUNTS + b"v"
_KEYS = ACCOUNTS + b"k"
_IDS = ACCOUNTS + b"i"
QUOTAS = ACCOUNTS + b"q"
QUOTAS_END = ACCOUNTS + b"r"


class KeyRecord(msgspec.Struct, array_like=True, frozen=True):
    """Part of a UserRecord."""

    id: str
    sealed_secret: bytes
    created_us: int


class UserRecord(Record, tag=1, kw_only=True, frozen=True):
    name: str
    id: str
    email: str
    created_us: int
    keys: tuple[KeyRecord, ...]


class QuotaRecord(Record, tag=1, kw_only=True, frozen=True):
    """A row of its own, so that releases that know no quotas read and rewrite users as before."""

    max_buckets: int | None = None  # nil: the default of all users


#: Decoding refuses a record of a future version: reading half of it could widen rights.
USER = Codec(UserRecord)
QUOTA = Codec(QuotaRecord)


def user_key(name: str) -> bytes:
    return USERS + name.encode()


def access_key_key(access_key_id: str) -> bytes:
    return _KEYS + access_key_id.encode()


def id_key(canonical_id: str) -> bytes:
    return _IDS + canonical_id.encode()


def quota_key(canonical_id: str) -> bytes:
    return QUOTAS + canonical_id.encode()


def secret_context(access_key_id: str) -> bytes:
    """What a sealed secret is bound to, so that it can't be moved to another access key."""
    return b"atoll/secret/1" + access_key_id.encode()
