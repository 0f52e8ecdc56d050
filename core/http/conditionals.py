"""Conditional requests (RFC 9110 section 13): ETags, dates and the order in which they are judged."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def parse_http_date(value: str) -> datetime | None:
    """An HTTP date (any of its three forms), or ISO 8601 as some clients send; None when it is neither, which makes
    the condition void."""
    try:
        parsed = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        try:
            parsed = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def etag_list(header: str) -> list[str]:
    """The bare tags of an If-Match or If-None-Match header; weakness marks and quotes are dropped, `*` stays."""
    return [_bare(tag) for tag in header.split(",") if tag.strip()]


def _bare(tag: str) -> str:
    tag = tag.strip()
    if tag[:2] in ("W/", "w/"):
        tag = tag[2:]
    return tag.strip('"')


def matches(header: str, etag: str) -> bool:
    """Whether the header's list names `etag` (bare or quoted) or is `*`. Quotes around tags are optional."""
    if header.strip() in ("*", '"*"'):
        return True
    return _bare(etag) in etag_list(header)


def failed_condition(
    etag: str,
    modified_us: int,
    *,
    if_match: str | None = None,
    if_none_match: str | None = None,
    if_modified_since: datetime | None = None,
    if_unmodified_since: datetime | None = None,
) -> str:
    """The name of the header whose condition does not hold for a representation, or "" if all hold.

    In RFC 9110's order of precedence (13.2.2), which is S3's too: a date is judged only where its ETag counterpart is
    absent. Dates have whole seconds.
    """
    seconds = modified_us // 1_000_000
    if if_match is not None:
        if not matches(if_match, etag):
            return "If-Match"
    elif if_unmodified_since is not None and seconds > int(if_unmodified_since.timestamp()):
        return "If-Unmodified-Since"
    if if_none_match is not None:
        if matches(if_none_match, etag):
            return "If-None-Match"
    elif if_modified_since is not None and seconds <= int(if_modified_since.timestamp()):
        return "If-Modified-Since"
    return ""


def range_still_holds(if_range: str | None, etag: str, modified_us: int) -> bool:
    """Whether `If-Range` (RFC 9110, 13.1.5) lets the Range header apply. True when the header is absent."""
    if not if_range:
        return True
    value = if_range.strip()
    if value[:2] in ("W/", "w/"):
        return False  # only strong validators may join ranges
    if value.startswith('"'):
        return _bare(value) == _bare(etag)
    date = parse_http_date(value)
    if date is None:
        return value == _bare(etag)
    return int(date.timestamp()) == modified_us // 1_000_000
