"""Simple values on the wire: text to what handlers work with, and back."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache

from core.http.conditionals import parse_http_date
from gateway.s3.errors import S3Error

_MAX_INT = 2**31 - 1
_MAX_LONG = 2**63 - 1


def invalid(name: str, value: str, message: str = "") -> S3Error:
    """S3's refusal of an argument."""
    return S3Error(
        "InvalidArgument",
        message or f"Invalid value for {name}",
        fields={"ArgumentName": name, "ArgumentValue": value},
    )


def parse_integer(name: str, value: str, *, long: bool = False) -> int:
    """A non-negative decimal number. Raises S3Error InvalidArgument."""
    text = value.strip()
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise invalid(name, value, f"Provided {name} not an integer or within integer range")
    number = int(text)
    if number > (_MAX_LONG if long else _MAX_INT):
        raise invalid(name, value, f"Provided {name} not an integer or within integer range")
    return number


def parse_boolean(name: str, value: str) -> bool:
    """Raises S3Error InvalidArgument."""
    text = value.strip().lower()
    if text not in ("true", "false"):
        raise invalid(name, value)
    return text == "true"


def parse_iso8601(value: str) -> datetime | None:
    """An ISO 8601 time, UTC where it names no zone; None for anything else."""
    try:
        parsed = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def parse_timestamp(name: str, value: str) -> datetime:
    """A time in any of the forms that the model knows. Raises S3Error InvalidArgument."""
    parsed = parse_http_date(value) or parse_iso8601(value)
    if parsed is None:
        raise invalid(name, value)
    return parsed


def seconds_of(moment: datetime | int) -> int:
    """Whole seconds since the epoch, of a datetime or of microseconds since the epoch."""
    if isinstance(moment, int):
        return moment // 1_000_000
    return int(moment.timestamp())


_MINUTES = tuple(f"{minute // 60:02d}:{minute % 60:02d}:" for minute in range(1440))
_SECONDS = tuple(f"{second:02d}.000Z" for second in range(60))


@lru_cache(maxsize=4096)
def _iso_day(day: int) -> str:
    return time.strftime("%Y-%m-%dT", time.gmtime(day * 86400))


def iso8601(moment: datetime | int) -> str:
    """As S3 prints times in XML: `2006-02-03T16:45:09.000Z`."""
    day, rest = divmod(seconds_of(moment), 86400)
    minute, second = divmod(rest, 60)
    return _iso_day(day) + _MINUTES[minute] + _SECONDS[second]


@lru_cache(maxsize=1024)
def _http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def http_date(moment: datetime | int) -> str:
    """As headers print times: `Wed, 12 Oct 2009 17:50:00 GMT`."""
    return _http_date(seconds_of(moment))


def quoted_etag(etag: str) -> str:
    """An ETag in quotes, once."""
    return etag if etag.startswith('"') else f'"{etag}"'
