"""PutBucketVersioning."""

from __future__ import annotations

from dataclasses import replace

from engine.types import Versioning
from gateway.s3.access import require_bucket
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.errors import S3Error

_STATES = {"Enabled": Versioning.ENABLED, "Suspended": Versioning.SUSPENDED}


async def put_bucket_versioning(services: Services, request: S3Request) -> S3Response:
    """Enable or suspend versioning. MFA delete would need a second factor that users don't have: refused."""
    bucket = await require_bucket(services, request, "s3:PutBucketVersioning")
    configuration = await request.document()
    mfa_delete = configuration.get("MFADelete")
    if mfa_delete == "Enabled":
        raise S3Error("NotImplemented", "MFA delete is not implemented.")
    status = configuration.get("Status")
    if status is None and mfa_delete is None:
        raise S3Error("IllegalVersioningConfigurationException")
    if mfa_delete not in (None, "Disabled") or status not in (None, *_STATES):
        raise S3Error("MalformedXML")
    if status is not None:
        state = _STATES[status]
        await services.store.update_bucket(bucket, lambda present: replace(present, versioning=state))
    return S3Response()
