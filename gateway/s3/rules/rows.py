"""Rows of listings as the model has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.types import ListedObject
from gateway.s3.contract import UserDirectory
from gateway.s3.rules.acl import owner_output


class Owners:
    """Owner elements of one listing: few owners, many rows."""

    __slots__ = ("_known", "_users")

    def __init__(self, users: UserDirectory) -> None:
        self._users = users
        self._known: dict[str, dict[str, str]] = {}

    def get(self, owner: str) -> dict[str, str]:
        found = self._known.get(owner)
        if found is None:
            found = self._known[owner] = owner_output(owner, self._users)
        return found


def object_row(row: ListedObject, owners: Owners | None) -> dict[str, Any]:
    """A Contents element; with its Owner if `owners` are given."""
    entry: dict[str, Any] = {
        "Key": row.key,
        "LastModified": row.modified_us,
        "ETag": row.etag,
        "Size": row.size,
        "StorageClass": row.storage_class,
    }
    if row.checksum_algorithms:
        entry["ChecksumAlgorithm"] = row.checksum_algorithms
        if row.checksum_type is not None:
            entry["ChecksumType"] = row.checksum_type.value
    if owners is not None:
        entry["Owner"] = owners.get(row.owner)
    return entry


def version_row(row: ListedObject, owners: Owners) -> dict[str, Any]:
    """A Version or DeleteMarker element; the edge tells them apart by "DeleteMarker"."""
    if row.delete_marker:
        return {
            "DeleteMarker": True,
            "Key": row.key,
            "VersionId": row.version_id,
            "IsLatest": row.is_latest,
            "LastModified": row.modified_us,
            "Owner": owners.get(row.owner),
        }
    entry = object_row(row, owners)
    entry["VersionId"] = row.version_id
    entry["IsLatest"] = row.is_latest
    return entry


def prefix_rows(prefixes: Sequence[str]) -> list[dict[str, str]]:
    """CommonPrefixes elements."""
    return [{"Prefix": prefix} for prefix in prefixes]
