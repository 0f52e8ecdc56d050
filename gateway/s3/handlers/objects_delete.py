"""DeleteObjects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.access import PrincipalKind
from engine.errors import EngineError, NoSuchVersion
from engine.types import Bucket, DeleteResult, WriteCondition
from gateway.s3.access import allows, arrive, check_version_id, denied, find_bucket, versioned, writer
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.errors import S3Error, map_engine_error
from gateway.s3.rules.conditions import delete_condition
from gateway.s3.rules.naming import check_key

_MOST = 1000

Item = tuple[str, str, WriteCondition]


async def delete_objects(services: Services, request: S3Request) -> S3Response:
    """Delete up to 1,000 keys or versions; each is allowed, judged and answered for itself."""
    bucket = await find_bucket(services, request.bucket, request.params.get("ExpectedBucketOwner"))
    if request.principal.kind is PrincipalKind.ANONYMOUS and not await allows(
        services, request, "s3:DeleteObject", bucket
    ):
        raise denied()  # before the body is read
    document = await request.document()
    named = document.get("Objects") or []
    if not 1 <= len(named) <= _MOST or not all(one.get("Key") for one in named):
        raise S3Error("MalformedXML")
    items: list[Item] = []
    refused: list[dict[str, str]] = []
    for one in named:
        try:
            items.append(await _item(services, request, bucket, one))
        except S3Error as error:
            refused.append(_refusal(one["Key"], one.get("VersionId") or "", error))
    results = await services.store.delete_objects(bucket, items, owner=writer(request, bucket))
    deleted: list[dict[str, Any]] = []
    for (key, version_id, _), result in zip(items, results, strict=True):
        if isinstance(result, DeleteResult):
            deleted.append(_success(key, version_id, result))
        elif isinstance(result, NoSuchVersion):
            deleted.append({"Key": key, "VersionId": version_id})
        else:
            refused.append(_refusal(key, version_id, _s3_error(result)))
    return S3Response({"Deleted": [] if document.get("Quiet") else deleted, "Errors": refused})


async def _item(services: Services, request: S3Request, bucket: Bucket, named: Mapping[str, Any]) -> Item:
    """One key to delete, once that is allowed. Raises S3Error."""
    key: str = named["Key"]
    check_key(key)
    version_id = check_version_id(named.get("VersionId"))
    if not await allows(
        services, request, versioned("s3:DeleteObject", version_id), bucket, key=key, version_id=version_id
    ):
        raise denied()
    condition = delete_condition(named.get("ETag"), named.get("LastModifiedTime"), named.get("Size"))
    if not version_id:
        await arrive(services, bucket, key, condition)
    return key, version_id, condition


def _success(key: str, version_id: str, result: DeleteResult) -> dict[str, Any]:
    entry: dict[str, Any] = {"Key": key}
    if version_id:
        entry["VersionId"] = version_id
    if result.delete_marker:
        entry["DeleteMarker"] = True
        entry["DeleteMarkerVersionId"] = result.version_id
    return entry


def _s3_error(error: EngineError) -> S3Error:
    return map_engine_error(error) or S3Error("InternalError")


def _refusal(key: str, version_id: str, error: S3Error) -> dict[str, str]:
    entry = {"Key": key, "Code": error.code, "Message": error.message}
    if version_id:
        entry["VersionId"] = version_id
    return entry
