"""Access types: who asks, for what, on which resource, and the one port that decides."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

import msgspec


class PrincipalKind(enum.Enum):
    ANONYMOUS = "anonymous"
    USER = "user"
    ROOT = "root"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `id` is the canonical id (64 hex digits) that S3 prints as Owner ID."""

    kind: PrincipalKind
    id: str
    name: str
    access_key_id: str = ""


ANONYMOUS = Principal(PrincipalKind.ANONYMOUS, "", "anonymous")


class Resource(msgspec.Struct, frozen=True, gc=False):
    """What is asked about. A bucket alone, or a key (and version) in it; all empty for the service itself."""

    bucket: str = ""
    key: str = ""
    version_id: str = ""


class AccessContext(msgspec.Struct, frozen=True, gc=False):
    """Facts that the caller has at hand; empty strings where there is no such thing.

    ACLs are the canned names (`private`, `public-read`, `public-read-write`, `authenticated-read`).
    """

    bucket_owner: str = ""
    bucket_acl: str = "private"
    object_owner: str = ""
    object_acl: str = "private"
    secure: bool = False
    source_ip: str = ""
    extra: dict[str, str] = {}


class Decision(enum.Enum):
    ALLOW = "allow"
    DENY = "deny"


class Authorizer(Protocol):
    """The one place that decides. Asked for every operation of every protocol, before any side effect."""

    async def authorize(
        self, principal: Principal, action: str, resource: Resource, context: AccessContext
    ) -> Decision:
        """Decide on `action` (IAM's name, such as `s3:GetObject`). Never raises for a denial."""
        ...
