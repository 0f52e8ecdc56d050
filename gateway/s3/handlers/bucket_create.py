"""CreateBucket."""

from __future__ import annotations

import re

from engine.errors import BucketExists, NoSuchBucket
from gateway.s3.access import require_service
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.errors import S3Error
from gateway.s3.rules.acl import acl_from_headers
from gateway.s3.rules.naming import check_bucket_name

#: The region whose endpoint answers 200 when a bucket's owner creates it again.
_CLASSIC_REGION = "us-east-1"
_REGION = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)+")


def check_location(constraint: str | None, region: str) -> str:
    """The location to keep, "" for none. Raises S3Error InvalidLocationConstraint for what names no region,
    IllegalLocationConstraintException for another region than ours."""
    if not constraint or constraint == region or (constraint == "EU" and region == "eu-west-1"):
        return constraint or ""
    if _REGION.fullmatch(constraint):
        raise S3Error(
            "IllegalLocationConstraintException",
            f"The {constraint} location constraint is incompatible for the region specific endpoint this request was "
            "sent to.",
        )
    raise S3Error("InvalidLocationConstraint", fields={"LocationConstraint": constraint})


async def create_bucket(services: Services, request: S3Request) -> S3Response:
    await require_service(services, request, "s3:CreateBucket")
    name = request.bucket
    check_bucket_name(name)
    acl = acl_from_headers(request.params) or "private"
    configuration = await request.document()
    if any(configuration.get(member) for member in ("Location", "Bucket", "Tags")):
        raise S3Error("NotImplemented")
    location = check_location(configuration.get("LocationConstraint"), services.settings.region)
    owner = request.principal.id
    try:
        await services.store.create_bucket(name, owner=owner, acl=acl, location=location)
    except BucketExists as error:
        await _answer_existing(services, name, error.owner, owner, acl)
    return S3Response({"Location": f"/{name}"})


async def _answer_existing(services: Services, name: str, owner: str, caller: str, acl: str) -> None:
    """Return when the bucket is already what was asked for and the region is the one that says 200 to that.

    A repetition that asks for another ACL is not granted, and not taken for a success either: BucketAlreadyExists.
    """
    if owner != caller:
        raise S3Error("BucketAlreadyExists", fields={"BucketName": name})
    if services.settings.region != _CLASSIC_REGION:
        raise S3Error("BucketAlreadyOwnedByYou", fields={"BucketName": name})
    try:
        present = await services.store.get_bucket(name)
    except NoSuchBucket:
        raise S3Error("OperationAborted") from None
    if present.acl != acl:
        raise S3Error("BucketAlreadyExists", fields={"BucketName": name})
