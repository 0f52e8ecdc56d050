"""What implemented operations are asked for beyond what we do: refused before any side effect, not dropped in silence.

Members that are neither here nor used by a handler change nothing about what is stored (such as `RequestPayer`, which
only says who pays, or `BypassGovernanceRetention` where nothing is retained).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.s3.errors import S3Error

#: The one value of x-amz-server-side-encryption that we mean: everything is sealed with AES-256 anyway.
SEALED = "AES256"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a member is not taken; `only_if` tells for which values (None: for all)."""

    topic: str
    only_if: Callable[[str], bool] | None = None


_CUSTOMER_KEYS = "encryption with keys that the customer provides"
_KMS = "encryption with a key service"
_LOCK = "object lock"
_GRANTS = "grants beyond the canned ACLs"


def _is_true(value: str) -> bool:
    return value.strip().lower() == "true"


#: model member -> refusal; for every implemented operation that has the member.
REFUSED: dict[str, Refusal] = {
    "SSECustomerAlgorithm": Refusal(_CUSTOMER_KEYS),
    "SSECustomerKey": Refusal(_CUSTOMER_KEYS),
    "SSECustomerKeyMD5": Refusal(_CUSTOMER_KEYS),
    "CopySourceSSECustomerAlgorithm": Refusal(_CUSTOMER_KEYS),
    "CopySourceSSECustomerKey": Refusal(_CUSTOMER_KEYS),
    "CopySourceSSECustomerKeyMD5": Refusal(_CUSTOMER_KEYS),
    "ServerSideEncryption": Refusal(_KMS, lambda value: value in ("aws:kms", "aws:kms:dsse", "aws:fsx", "aws:backup")),
    "SSEKMSKeyId": Refusal(_KMS),
    "SSEKMSEncryptionContext": Refusal(_KMS),
    "BucketKeyEnabled": Refusal(_KMS, _is_true),
    "ObjectLockMode": Refusal(_LOCK),
    "ObjectLockRetainUntilDate": Refusal(_LOCK),
    "ObjectLockLegalHoldStatus": Refusal(_LOCK, lambda value: value != "OFF"),
    "ObjectLockEventHold": Refusal(_LOCK),
    "ObjectLockEventHoldDurationDays": Refusal(_LOCK),
    "ObjectLockEventHoldDurationYears": Refusal(_LOCK),
    "ObjectLockEnabledForBucket": Refusal(_LOCK, _is_true),
    "ObjectOwnership": Refusal("object ownership other than ObjectWriter", lambda value: value != "ObjectWriter"),
    "BucketNamespace": Refusal("bucket namespaces", lambda value: value != "global"),
    "GrantFullControl": Refusal(_GRANTS),
    "GrantRead": Refusal(_GRANTS),
    "GrantReadACP": Refusal(_GRANTS),
    "GrantWrite": Refusal(_GRANTS),
    "GrantWriteACP": Refusal(_GRANTS),
    "WriteOffsetBytes": Refusal("appending to an object"),
    "AnnotationDirective": Refusal("object annotations", lambda value: value not in ("COPY", "EXCLUDE")),
}


def refuse(member: str, wire_name: str, value: str) -> None:
    """Raise S3Error NotImplemented if the member's value asks for what we don't do, and
    InvalidEncryptionAlgorithmError for an encryption that nobody does."""
    refusal = REFUSED.get(member)
    if refusal is None:
        return
    if refusal.only_if is None or refusal.only_if(value):
        raise S3Error(
            "NotImplemented",
            f"A header you provided implies functionality that is not implemented: {refusal.topic}.",
            fields={"Header": wire_name},
        )
    if member == "ServerSideEncryption" and value != SEALED:
        raise S3Error(
            "InvalidArgument",
            "The encryption method specified is not supported",
            fields={"ArgumentName": wire_name, "ArgumentValue": value},
        )
