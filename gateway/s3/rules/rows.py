"""Rows of listings as the model has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.types import ListedObject
from gateway.s3.contract import UserDirectory
from gateway.s3.rules.acl import owner_output
from gateway.s3.tables import Table


def object_rows(rows: Sequence[ListedObject], users: UserDirectory | None) -> Table:
    """Contents elements; with their Owner, as the users tell it, if they are given."""
    kinds: dict[tuple[Any, ...], int] = {}
    of_rows: list[int] = []
    shared: list[dict[str, Any]] = []
    for row in rows:
        owner = "" if users is None else row.owner
        kind = kinds.setdefault((row.storage_class, row.checksum_algorithms, row.checksum_type, owner), len(kinds))
        if kind == len(shared):
            shared.append(_object(row, users))
        of_rows.append(kind)
    return Table(_columns(rows), of_rows, shared)


def version_rows(rows: Sequence[ListedObject], users: UserDirectory) -> Table:
    """Version and DeleteMarker elements; the edge tells them apart by "DeleteMarker"."""
    kinds: dict[tuple[Any, ...], int] = {}
    of_rows: list[int] = []
    shared: list[dict[str, Any]] = []
    for row in rows:
        about = (row.storage_class, row.checksum_algorithms, row.checksum_type, row.owner)
        kind = kinds.setdefault((row.delete_marker, row.is_latest, about), len(kinds))
        if kind == len(shared):
            shared.append(_version(row, users))
        of_rows.append(kind)
    return Table({**_columns(rows), "VersionId": [row.version_id for row in rows]}, of_rows, shared)


def _columns(rows: Sequence[ListedObject]) -> dict[str, list[Any]]:
    return {
        "Key": [row.key for row in rows],
        "LastModified": [row.modified_us for row in rows],
        "ETag": [row.etag for row in rows],
        "Size": [row.size for row in rows],
    }


def _object(row: ListedObject, users: UserDirectory | None) -> dict[str, Any]:
    """What all objects of the row's kind have in common."""
    entry: dict[str, Any] = {"StorageClass": row.storage_class}
    if row.checksum_algorithms:
        entry["ChecksumAlgorithm"] = row.checksum_algorithms
        if row.checksum_type is not None:
            entry["ChecksumType"] = row.checksum_type.value
    if users is not None:
        entry["Owner"] = owner_output(row.owner, users)
    return entry


def _version(row: ListedObject, users: UserDirectory) -> dict[str, Any]:
    """What all versions, or all delete markers, of the row's kind have in common."""
    if row.delete_marker:
        owner = owner_output(row.owner, users)
        return {"DeleteMarker": True, "IsLatest": row.is_latest, "Owner": owner, "ETag": None, "Size": None}
    return {"IsLatest": row.is_latest, **_object(row, users)}


def prefix_rows(prefixes: Sequence[str]) -> list[dict[str, str]]:
    """CommonPrefixes elements."""
    return [{"Prefix": prefix} for prefix in prefixes]
