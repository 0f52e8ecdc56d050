"""Ranges and conditions, as RFC 9110 has them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.http.conditionals import (
    etag_list,
    failed_condition,
    matches,
    parse_http_date,
    range_still_holds,
)
from core.http.ranges import ByteRange, RangeError, parse_range


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        ("bytes=0-9", 100, (0, 10)),
        ("bytes=90-", 100, (90, 10)),
        ("bytes=-10", 100, (90, 10)),
        ("bytes=-1000", 100, (0, 100)),
        ("bytes=0-52428799", 5, (0, 5)),
        ("bytes=99-99", 100, (99, 1)),
        ("Bytes = 1-2 ", 100, (1, 2)),
        ("bytes=100-", 100, RangeError.UNSATISFIABLE),
        ("bytes=40-50", 0, RangeError.UNSATISFIABLE),
        ("bytes=0-", 0, RangeError.UNSATISFIABLE),
        ("bytes=-5", 0, RangeError.UNSATISFIABLE),
        ("bytes=-0", 100, RangeError.UNSATISFIABLE),
        ("bytes=5-2", 100, RangeError.IGNORED),
        ("bytes=0-1,3-4", 100, RangeError.IGNORED),
        ("bytes=", 100, RangeError.IGNORED),
        ("bytes=-", 100, RangeError.IGNORED),
        ("bytes=a-b", 100, RangeError.IGNORED),
        ("items=0-5", 100, RangeError.IGNORED),
        ("bytes=1-2x", 100, RangeError.IGNORED),
        ("bytes=٣-٤", 100, RangeError.IGNORED),
        ("bytes=" + "9" * 30 + "-", 100, RangeError.IGNORED),
        ("", 100, RangeError.IGNORED),
        (None, 100, RangeError.IGNORED),
    ],
)
def test_forms_of_ranges(header: str | None, size: int, expected: tuple[int, int] | RangeError) -> None:
    got = parse_range(header, size)
    if isinstance(expected, RangeError):
        assert got is expected
    else:
        assert got == ByteRange(*expected, size)


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 200))
def test_ranges_are_what_slicing_gives(first: int, last: int, size: int) -> None:
    data = bytes(index % 256 for index in range(size))
    got = parse_range(f"bytes={first}-{last}", size)
    if isinstance(got, ByteRange):
        assert data[got.offset : got.offset + got.length] == data[first : last + 1]
        assert got.content_range == f"bytes {got.offset}-{got.offset + got.length - 1}/{size}"
    else:
        assert first > last or first >= size


NOW = datetime(2024, 5, 1, 12, 0, 0, tzinfo=UTC)
MODIFIED = int(NOW.timestamp()) * 1_000_000 + 999_999
BEFORE, AFTER = NOW - timedelta(seconds=1), NOW + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({}, ""),
        ({"if_match": '"abc"'}, ""),
        ({"if_match": "abc"}, ""),
        ({"if_match": '"x", "abc"'}, ""),
        ({"if_match": "*"}, ""),
        ({"if_match": '"x"'}, "If-Match"),
        ({"if_none_match": '"abc"'}, "If-None-Match"),
        ({"if_none_match": 'W/"abc"'}, "If-None-Match"),
        ({"if_none_match": "*"}, "If-None-Match"),
        ({"if_none_match": '"x"'}, ""),
        ({"if_modified_since": BEFORE}, ""),
        ({"if_modified_since": NOW}, "If-Modified-Since"),
        ({"if_modified_since": AFTER}, "If-Modified-Since"),
        ({"if_unmodified_since": BEFORE}, "If-Unmodified-Since"),
        ({"if_unmodified_since": NOW}, ""),
        ({"if_match": '"abc"', "if_unmodified_since": BEFORE}, ""),
        ({"if_none_match": '"x"', "if_modified_since": AFTER}, ""),
        ({"if_match": '"x"', "if_none_match": '"abc"'}, "If-Match"),
        ({"if_unmodified_since": AFTER, "if_none_match": '"abc"'}, "If-None-Match"),
    ],
)
def test_conditions_in_their_order(condition: dict[str, object], expected: str) -> None:
    assert failed_condition("abc", MODIFIED, **condition) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "Wed, 01 May 2024 12:00:00 GMT",
        "Wednesday, 01-May-24 12:00:00 GMT",
        "Wed May  1 12:00:00 2024",
        "2024-05-01T12:00:00Z",
        "2024-05-01T14:00:00+02:00",
    ],
)
def test_forms_of_dates(text: str) -> None:
    assert parse_http_date(text) == NOW


@given(st.text(max_size=40))
def test_what_is_no_date_is_none(text: str) -> None:
    moment = parse_http_date(text)
    assert moment is None or moment.tzinfo is not None


def test_etag_lists() -> None:
    assert etag_list('"a", W/"b",c,, ') == ["a", "b", "c"]
    assert matches('"a"', '"a"')
    assert not matches("", "a")


@pytest.mark.parametrize(
    ("header", "holds"),
    [
        (None, True),
        ('"abc"', True),
        ('"x"', False),
        ('W/"abc"', False),
        ("Wed, 01 May 2024 12:00:00 GMT", True),
        ("Wed, 01 May 2024 12:00:01 GMT", False),
        ("abc", True),
    ],
)
def test_if_range(header: str | None, holds: bool) -> None:
    assert range_still_holds(header, "abc", MODIFIED) is holds
