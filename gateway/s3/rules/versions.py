"""Where version ids are printed.

Every version has an id, which is `null` for objects written without versioning. S3 prints `null` only when it speaks of
an existing version of a bucket that has, or had, versioning: not in a bucket that never had it, and not in the answer
to a write.
"""

from __future__ import annotations

from engine.types import NULL_VERSION, Bucket, Versioning


def version_headers(version_id: str | None) -> dict[str, str]:
    """The header of a version id, none for an empty one."""
    return {"x-amz-version-id": version_id} if version_id else {}


def printed_version(bucket: Bucket, version_id: str) -> str | None:
    """An existing version's id as answers print it, None if they don't."""
    if version_id == NULL_VERSION and bucket.versioning is Versioning.UNVERSIONED:
        return None
    return version_id


def written_version(version_id: str) -> str | None:
    """A new version's id as the answer to its writing prints it, None if that doesn't."""
    return None if version_id == NULL_VERSION else version_id
