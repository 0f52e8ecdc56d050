"""The answers for configurations that can't be set: exactly what S3 says of a bucket on which nobody set them.

Terraform, s3cmd and others read all of them before they do anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.s3.contract import BucketCheck, Handler, S3Error, S3Request, S3Response


@dataclass(frozen=True, slots=True)
class Unset:
    """The IAM action to be asked for, and either an error code or the output of an empty configuration."""

    action: str
    code: str = ""
    message: str = ""
    output: Mapping[str, Any] = field(default_factory=dict)


UNSET: dict[str, Unset] = {
    "GetBucketAccelerateConfiguration": Unset("s3:GetAccelerateConfiguration"),
    "GetBucketAnalyticsConfiguration": Unset("s3:GetAnalyticsConfiguration", "NoSuchConfiguration"),
    "GetBucketCors": Unset("s3:GetBucketCORS", "NoSuchCORSConfiguration"),
    "GetBucketEncryption": Unset("s3:GetEncryptionConfiguration", "ServerSideEncryptionConfigurationNotFoundError"),
    "GetBucketIntelligentTieringConfiguration": Unset("s3:GetIntelligentTieringConfiguration", "NoSuchConfiguration"),
    "GetBucketInventoryConfiguration": Unset("s3:GetInventoryConfiguration", "NoSuchConfiguration"),
    "GetBucketLifecycleConfiguration": Unset("s3:GetLifecycleConfiguration", "NoSuchLifecycleConfiguration"),
    "GetBucketLogging": Unset("s3:GetBucketLogging"),
    "GetBucketMetricsConfiguration": Unset("s3:GetMetricsConfiguration", "NoSuchConfiguration"),
    "GetBucketNotificationConfiguration": Unset("s3:GetBucketNotification"),
    "GetBucketOwnershipControls": Unset("s3:GetBucketOwnershipControls", "OwnershipControlsNotFoundError"),
    "GetBucketPolicy": Unset("s3:GetBucketPolicy", "NoSuchBucketPolicy"),
    "GetBucketPolicyStatus": Unset("s3:GetBucketPolicyStatus", output={"PolicyStatus": {"IsPublic": False}}),
    "GetBucketReplication": Unset("s3:GetReplicationConfiguration", "ReplicationConfigurationNotFoundError"),
    "GetBucketRequestPayment": Unset("s3:GetBucketRequestPayment", output={"Payer": "BucketOwner"}),
    "GetBucketWebsite": Unset("s3:GetBucketWebsite", "NoSuchWebsiteConfiguration"),
    "GetObjectLegalHold": Unset(
        "s3:GetObjectLegalHold", "InvalidRequest", "Bucket is missing Object Lock Configuration"
    ),
    "GetObjectLockConfiguration": Unset("s3:GetBucketObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"),
    "GetObjectRetention": Unset(
        "s3:GetObjectRetention", "InvalidRequest", "Bucket is missing Object Lock Configuration"
    ),
    "GetPublicAccessBlock": Unset("s3:GetBucketPublicAccessBlock", "NoSuchPublicAccessBlockConfiguration"),
    "ListBucketAnalyticsConfigurations": Unset("s3:GetAnalyticsConfiguration", output={"IsTruncated": False}),
    "ListBucketIntelligentTieringConfigurations": Unset(
        "s3:GetIntelligentTieringConfiguration", output={"IsTruncated": False}
    ),
    "ListBucketInventoryConfigurations": Unset("s3:GetInventoryConfiguration", output={"IsTruncated": False}),
    "ListBucketMetricsConfigurations": Unset("s3:GetMetricsConfiguration", output={"IsTruncated": False}),
}


def unset_handlers(check: BucketCheck) -> dict[str, Handler]:
    """A handler for each entry, which asks `check` first."""
    return {name: _handler(unset, check) for name, unset in UNSET.items()}


def _handler(unset: Unset, check: BucketCheck) -> Handler:
    async def answer(request: S3Request) -> S3Response:
        await check(request, unset.action)
        if unset.code:
            raise S3Error(unset.code, unset.message, fields={"BucketName": request.bucket})
        return S3Response(dict(unset.output))

    return answer
