"""Conditions of writes and deletes, judged in the committing transaction.

Writes follow S3's conditional writes: `If-None-Match: *` wants no object, with an ETag any object but that one (S3
itself knows `*` alone), `If-Match` wants one (a missing key or a delete marker is 404 NoSuchKey) with that ETag.
Deletes follow its conditional deletes: `If-Match` on a missing key is 404, on a delete marker 412; the size and time
conditions hold for what does not exist.
"""

from __future__ import annotations

from engine.errors import NoSuchKey, PreconditionFailed
from engine.records import MARKER, Version, unpack_etag
from engine.types import UNCONDITIONAL, WriteCondition


def judge_write(condition: WriteCondition, current: Version | None) -> None:
    """Raises PreconditionFailed or NoSuchKey. `current` is the latest version, a delete marker included."""
    if condition is UNCONDITIONAL:
        return
    exists = current is not None and not current.flags & MARKER
    if condition.absent and exists:
        raise PreconditionFailed("If-None-Match")
    if condition.other_than and current is not None and exists and condition.other_than == unpack_etag(current.etag):
        raise PreconditionFailed("If-None-Match")
    if condition.etag:
        if current is None or not exists:
            raise NoSuchKey("If-Match on a key that does not exist")
        _judge_etag(condition, current)


def judge_delete(condition: WriteCondition, target: Version | None) -> None:
    """Raises PreconditionFailed or NoSuchKey. `target` is the latest version, or the one that the delete names."""
    if condition is UNCONDITIONAL:
        return
    if condition.etag:
        if target is None:
            raise NoSuchKey("If-Match on a key that does not exist")
        if target.flags & MARKER:
            raise PreconditionFailed("If-Match")
        _judge_etag(condition, target)
    if target is None or target.flags & MARKER:
        return
    if condition.size is not None and condition.size != target.size:
        raise PreconditionFailed("x-amz-if-match-size")
    if condition.modified_us is not None:
        modified = int.from_bytes(target.token[:8], "big")
        if condition.modified_us // 1_000_000 != modified // 1_000_000:
            raise PreconditionFailed("x-amz-if-match-last-modified-time")


def _judge_etag(condition: WriteCondition, version: Version) -> None:
    if condition.etag not in ("*", unpack_etag(version.etag)):
        raise PreconditionFailed("If-Match")
