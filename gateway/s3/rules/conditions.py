"""Conditional requests: reads, copy sources, writes and deletes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from core.http.conditionals import etag_list, failed_condition
from engine.types import UNCONDITIONAL, ObjectInfo, WriteCondition
from gateway.s3.errors import S3Error
from gateway.s3.values import seconds_of

READ_CONDITIONS = ("IfMatch", "IfNoneMatch", "IfModifiedSince", "IfUnmodifiedSince")
_ANY_READ = frozenset(READ_CONDITIONS)
_SOURCE = tuple(f"CopySource{name}" for name in READ_CONDITIONS)


def failed_read(params: Mapping[str, Any], info: ObjectInfo) -> str:
    """The header of a GET or HEAD whose condition does not hold for `info`, "" if all hold."""
    if _ANY_READ.isdisjoint(params):
        return ""
    if_match, if_none_match, since, unmodified = map(params.get, READ_CONDITIONS)
    return failed_condition(
        info.etag,
        info.modified_us,
        if_match=if_match,
        if_none_match=if_none_match,
        if_modified_since=since,
        if_unmodified_since=unmodified,
    )


def check_source(params: Mapping[str, Any], info: ObjectInfo) -> None:
    """Raises S3Error PreconditionFailed unless `x-amz-copy-source-if-*` hold for the source."""
    if_match, if_none_match, since, unmodified = map(params.get, _SOURCE)
    failed = failed_condition(
        info.etag,
        info.modified_us,
        if_match=if_match,
        if_none_match=if_none_match,
        if_modified_since=since,
        if_unmodified_since=unmodified,
    )
    if failed:
        raise S3Error("PreconditionFailed", fields={"Condition": f"x-amz-copy-source-{failed}"})


def _one_etag(header: str, name: str) -> str:
    tags = etag_list(header)
    if len(tags) != 1 or not tags[0]:
        raise S3Error("InvalidArgument", fields={"ArgumentName": name, "ArgumentValue": header})
    return tags[0]


def write_condition(params: Mapping[str, Any]) -> WriteCondition:
    """The condition of a PUT, Copy or Complete. Raises S3Error InvalidArgument for one that can't be judged."""
    if_match, if_none_match = params.get("IfMatch"), params.get("IfNoneMatch")
    if if_match is None and if_none_match is None:
        return UNCONDITIONAL
    if if_match is not None and if_none_match is not None:
        raise S3Error("NotImplemented", "If-Match and If-None-Match can't be combined on a write.")
    if if_match is not None:
        return WriteCondition(etag=_one_etag(if_match, "If-Match"))
    tag = _one_etag(str(if_none_match), "If-None-Match")
    return WriteCondition(absent=True) if tag == "*" else WriteCondition(other_than=tag)


def delete_condition(etag: str | None, modified: datetime | None, size: int | None) -> WriteCondition:
    """The condition of a delete: If-Match, and the size and time of last modification that it must have. Raises
    S3Error InvalidArgument."""
    if etag is None and modified is None and size is None:
        return UNCONDITIONAL
    return WriteCondition(
        etag="" if etag is None else _one_etag(etag, "If-Match"),
        size=size,
        modified_us=None if modified is None else seconds_of(modified) * 1_000_000,
    )
