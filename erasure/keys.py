"""Keys below the bucket key, as pure functions. Spec: docs/formats/object.md, "Keys".

root → bucket keys is the keyring's; here: bucket key → content key → body keys.
"""

from __future__ import annotations

import hmac
import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.ids import ID_LENGTH
from erasure.errors import WrongKey

KEY_LENGTH = 32
SALT_LENGTH = 16
#: salt, sealed key, tag
WRAPPED_LENGTH = SALT_LENGTH + KEY_LENGTH + 16
WRAP_FORMAT = 1

_BODY = b"atoll/body/1"
_CONTENT = b"atoll/wrap/1"
_EXTENT = b"atoll/extent/1"
#: Each wrapping key is fresh (a random salt) and seals one key, so its only nonce may be constant.
_NONCE = bytes(12)
_NO_SALT = bytes(32)
_CONTENT_CONTEXT = struct.Struct(">B16s16sQ")
_EXTENT_CONTEXT = struct.Struct(">B16s")


def new_key() -> bytes:
    """A random 256-bit key."""
    return os.urandom(KEY_LENGTH)


def body_key(content_key: bytes, body_id: bytes) -> bytes:
    """The key that seals a body, derived from its manifest's content key."""
    if len(body_id) != ID_LENGTH:
        raise _no_id()
    return _derive(content_key, None, _BODY + body_id)


def wrap_content_key(
    bucket_key: bytes, content_key: bytes, *, bucket_id: bytes, manifest_id: bytes, plain_length: int, salt: bytes = b""
) -> bytes:
    """A manifest's content key as it is kept on a reference to it: 64 bytes. `salt` is for test vectors only."""
    return _wrap(bucket_key, content_key, _CONTENT, _content_context(bucket_id, manifest_id, plain_length), salt)


def unwrap_content_key(
    bucket_key: bytes, wrapped: bytes, *, bucket_id: bytes, manifest_id: bytes, plain_length: int
) -> bytes:
    """Inverse of `wrap_content_key`. Raises WrongKey unless key, ids and length are those that it was wrapped with."""
    return _unwrap(bucket_key, wrapped, _CONTENT, _content_context(bucket_id, manifest_id, plain_length))


def wrap_body_key(content_key: bytes, key: bytes, *, body_id: bytes, salt: bytes = b"") -> bytes:
    """The key of a body taken from another manifest, under the new manifest's content key: 64 bytes."""
    return _wrap(content_key, key, _EXTENT, _extent_context(body_id), salt)


def unwrap_body_key(content_key: bytes, wrapped: bytes, *, body_id: bytes) -> bytes:
    """Inverse of `wrap_body_key`. Raises WrongKey."""
    return _unwrap(content_key, wrapped, _EXTENT, _extent_context(body_id))


def _wrap(above: bytes, key: bytes, info: bytes, context: bytes, salt: bytes) -> bytes:
    salt = salt or os.urandom(SALT_LENGTH)
    if len(key) != KEY_LENGTH or len(salt) != SALT_LENGTH:
        raise ValueError(f"a key has {KEY_LENGTH} bytes, a salt {SALT_LENGTH}")
    return salt + AESGCM(_derive(above, salt, info)).encrypt(_NONCE, key, context)


def _unwrap(above: bytes, wrapped: bytes, info: bytes, context: bytes) -> bytes:
    if len(wrapped) != WRAPPED_LENGTH:
        raise WrongKey(f"a wrapped key has {WRAPPED_LENGTH} bytes, not {len(wrapped)}")
    salt, sealed = wrapped[:SALT_LENGTH], wrapped[SALT_LENGTH:]
    try:
        return AESGCM(_derive(above, salt, info)).decrypt(_NONCE, sealed, context)
    except InvalidTag:
        raise WrongKey("the wrapped key does not open under this key and context") from None


def _derive(key: bytes, salt: bytes | None, info: bytes) -> bytes:
    if len(key) != KEY_LENGTH:
        raise ValueError(f"a key has {KEY_LENGTH} bytes")
    # HKDF (RFC 5869) with SHA-256, of which one block is a whole key; a library's object for it costs three times that.
    return hmac.digest(hmac.digest(salt or _NO_SALT, key, "sha256"), info + b"\1", "sha256")


def _content_context(bucket_id: bytes, manifest_id: bytes, plain_length: int) -> bytes:
    if len(bucket_id) != ID_LENGTH or len(manifest_id) != ID_LENGTH:
        raise _no_id()
    return _CONTENT_CONTEXT.pack(WRAP_FORMAT, bucket_id, manifest_id, plain_length)


def _extent_context(body_id: bytes) -> bytes:
    if len(body_id) != ID_LENGTH:
        raise _no_id()
    return _EXTENT_CONTEXT.pack(WRAP_FORMAT, body_id)


def _no_id() -> ValueError:
    return ValueError(f"an id has {ID_LENGTH} bytes")
