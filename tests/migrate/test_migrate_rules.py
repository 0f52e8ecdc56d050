"""The pure parts of migrations: merged pages, guessed parts, circles, pace."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.types import ListedObject, Listing
from gateway.migrate.errors import SourceDown, SourceRefused
from gateway.migrate.inventory import Circle
from gateway.migrate.layout import Entry
from gateway.migrate.pace import Bandwidth, patiently
from gateway.migrate.proof import likely_parts, part_count, promised
from gateway.migrate.read_through import merged
from gateway.migrate.source import Page

_KEYS = st.sets(st.text(st.sampled_from("ab/ü€"), min_size=1, max_size=5), max_size=12)


def _object(key: str, size: int) -> ListedObject:
    return ListedObject(key, "null", True, False, size, "", 0, "", "STANDARD")


def _page(keys: set[str], size: int, after: str, limit: int) -> Listing:
    """What a store lists of these keys with the delimiter `/`: objects of `size` bytes."""
    entries: dict[str, bool] = {}
    for key in keys:
        head, slash, _ = key.partition("/")
        entries[head + slash if slash else key] = bool(slash)
    order = sorted((key for key in entries if key.encode() > after.encode()), key=str.encode)
    shown = order[:limit]
    truncated = len(order) > limit
    return Listing(
        [_object(key, size) for key in shown if not entries[key]],
        [key for key in shown if entries[key]],
        truncated,
        shown[-1] if truncated and shown else "",
    )


@given(_KEYS, _KEYS, st.integers(1, 4))
def test_merged_pages_are_the_listing_of_both(here: set[str], coming: set[str], limit: int) -> None:
    after = ""
    keys: list[str] = []
    prefixes: list[str] = []
    sizes: dict[str, int] = {}
    for _ in range(30):
        page = merged(_page(here, 1, after, limit), _page(coming, 2, after, limit), limit)
        assert len(page.objects) + len(page.prefixes) <= limit
        keys += [one.key for one in page.objects]
        prefixes += page.prefixes
        sizes.update({one.key: one.size for one in page.objects})
        if not page.truncated:
            break
        assert page.next_key.encode() > after.encode()
        after = page.next_key
    whole = _page(here | coming, 1, "", 1000)
    assert keys == [one.key for one in whole.objects]
    assert prefixes == list(whole.prefixes)
    assert all(sizes[key] == (1 if key in here else 2) for key in keys)


@given(st.integers(1, 1 << 42), st.integers(1, 10_000))
def test_likely_parts_cover_the_object(size: int, count: int) -> None:
    parts = likely_parts(size, count)
    assert parts[0][0] == 0
    assert sum(length for _, length in parts) == size
    assert all(one[0] + one[1] == two[0] for one, two in itertools.pairwise(parts))
    assert len(parts) <= count


def test_likely_parts_are_those_of_well_known_clients() -> None:
    mib = 1 << 20
    assert likely_parts(20 * mib, 3) == [(0, 8 * mib), (8 * mib, 8 * mib), (16 * mib, 4 * mib)]
    assert [length for _, length in likely_parts(101 * mib, 21)] == [5 * mib] * 20 + [mib]


@pytest.mark.parametrize(
    ("etag", "count"),
    [("0" * 32, 0), ("0" * 32 + "-3", 3), ("0" * 32 + "-0", 0), ("0" * 32 + "-99999", 10_000), ("x-3", 0), ("", 0)],
)
def test_part_counts_of_etags(etag: str, count: int) -> None:
    assert part_count(etag) == count


def test_a_composite_checksum_promises_nothing_of_the_whole() -> None:
    assert promised({"x-amz-checksum-crc32": "AAAAAA==-3"}) == ("", "")
    assert promised({"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-type": "COMPOSITE"}) == ("", "")
    assert promised({"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-type": "FULL_OBJECT"}) == ("CRC32", "AAAAAA==")


def _walk(places: list[int]) -> None:
    circle = Circle()
    for place in places:
        circle.pass_by(Page([Entry(f"k{place}", 1, "e", 0)], f"t{place}"))


@given(st.integers(0, 40), st.integers(1, 40))
def test_every_circle_is_found(before: int, length: int) -> None:
    steps = range(10 * (before + length + 2))
    places = [step if step < before else before + (step - before) % length for step in steps]
    with pytest.raises(SourceRefused):
        _walk(places)


@given(st.integers(1, 500))
def test_a_listing_that_goes_on_is_no_circle(pages: int) -> None:
    _walk(list(range(pages)))


async def test_patience_runs_out_with_the_last_error() -> None:
    tries = 0

    async def fail() -> None:
        nonlocal tries
        tries += 1
        raise SourceDown(f"try {tries}")

    began = time.monotonic()
    with pytest.raises(SourceDown, match=r"try [2-9]"):
        await patiently(fail, 1.0)
    assert time.monotonic() - began <= 1.5


async def test_bandwidth_is_kept_over_a_while() -> None:
    bandwidth = Bandwidth(1000)
    began = time.monotonic()
    for _ in range(15):
        await bandwidth.take(100)
    assert time.monotonic() - began >= 0.3  # 1,500 bytes, of which a second's worth goes at once
