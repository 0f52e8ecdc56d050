"""Where version ids are printed.

ObjectInfo of an unversioned bucket carries "null". S3 prints version ids of objects only when the bucket has, or had,
versioning; the null version of such a bucket is printed as `null`.
"""

from __future__ import annotations

from engine.types import Bucket, Versioning


def version_headers(version_id: str) -> dict[str, str]:
    """The header of a version id, none for an empty one."""
    return {"x-amz-version-id": version_id} if version_id else {}


def printed_version(bucket: Bucket, version_id: str) -> str | None:
    """The version id as headers print it: None in a bucket that never had versioning."""
    return None if bucket.versioning is Versioning.UNVERSIONED else version_id
