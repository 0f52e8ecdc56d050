"""Users and access keys as the other rooms see them."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import Protocol

from accounts.errors import InvalidUser
from core.access import PrincipalKind

_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,128}")
_ID = re.compile(r"[\x21-\x7e]{1,128}")
_EMAIL = re.compile(r"[^\s@\x00-\x1f\x7f]{1,64}@[^\s@\x00-\x1f\x7f]{1,190}")
_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{3,128}")  # goes into a slash-separated credential scope
_SECRET = re.compile(r"[\x21-\x7e]{8,256}")

_KEY_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class SecretWrapper(Protocol):
    """Seals secret keys for storage. The engine's KeyWrapper fits; wiring joins them."""

    def wrap(self, key: bytes, context: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key pair. The secret is not part of its text form."""

    id: str
    secret: str = field(repr=False)
    created_us: int = 0


@dataclass(frozen=True, slots=True)
class User:
    """A user. `id` is the canonical id that S3 prints as Owner ID; `declared` users live in the configuration."""

    id: str
    name: str
    email: str = ""
    keys: tuple[AccessKey, ...] = ()
    kind: PrincipalKind = PrincipalKind.USER
    declared: bool = False


def new_canonical_id() -> str:
    """A random canonical id of 64 hex digits."""
    return secrets.token_hex(32)


def new_access_key(created_us: int) -> AccessKey:
    """A random pair in the form that clients know: 20 characters, 40 characters."""
    key_id = "AKIA" + "".join(secrets.choice(_KEY_ALPHABET) for _ in range(16))
    secret = "".join(secrets.choice(_CHARACTERS) for _ in range(40))
    return AccessKey(key_id, secret, created_us)


def check_access_key(key: AccessKey) -> None:
    """Raises InvalidUser for a key id or secret that can't be used for signing."""
    if not _KEY_ID.fullmatch(key.id):
        raise InvalidUser("access key", "3 to 128 letters, digits, '_', '-' or '.'")
    if not _SECRET.fullmatch(key.secret):
        raise InvalidUser("secret key", "8 to 256 printable characters without spaces")


def check_user(user: User) -> None:
    """Raises InvalidUser for a name, id, e-mail address or key of a form that is not accepted."""
    if not _NAME.fullmatch(user.name) or user.name != user.name.strip():
        raise InvalidUser("name", "1 to 128 printable characters, no space at either end")
    if not _ID.fullmatch(user.id):
        raise InvalidUser("id", "1 to 128 printable ASCII characters without spaces")
    if user.email and not _EMAIL.fullmatch(user.email):
        raise InvalidUser("e-mail address", "name@domain")
    for key in user.keys:
        check_access_key(key)
