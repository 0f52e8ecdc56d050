"""The record codec: versions, bit sets, unknown fields, damage."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import Corrupt, FutureVersion
from catalog.feed import FEED_ROW, FeedChange, FeedRow
from catalog.records import Codec, Flags, Record


class Small(Record, tag=1, kw_only=True, frozen=True):
    order: int
    body: bytes = b""


class Inner(msgspec.Struct, array_like=True, frozen=True):
    offset: int
    data: bytes


class Grown(Record, tag=1, kw_only=True, frozen=True):
    """`Small` as a later program knows it."""

    order: int
    body: bytes = b""
    parts: tuple[Inner, ...] = ()
    name: str = "new"


class Wide(Record, tag=3, kw_only=True, frozen=True):
    """More fields than fit msgpack's one-byte array header."""

    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    e: int = 0
    f: int = 0
    g: int = 0
    h: int = 0
    i: int = 0
    j: int = 0
    k: int = 0
    m: int = 0
    n: int = 0
    o: int = 0
    p: int = 0


SMALL, GROWN, WIDE = Codec(Small), Codec(Grown), Codec(Wide)


def test_the_wire_form_is_as_documented() -> None:
    assert SMALL.encode(Small(order=5, body=b"abc")).hex() == "9401c005c403616263"
    flagged = Small(order=5, flags=Flags(incompatible=0, compatible=2))
    assert msgspec.msgpack.decode(SMALL.encode(flagged)) == [1, [0, 2], 5, b""]


@given(st.integers(0, 2**64 - 1), st.binary(max_size=50), st.text(max_size=10))
def test_round_trip(order: int, body: bytes, name: str) -> None:
    record = Grown(order=order, body=body, parts=(Inner(1, body), Inner(2, b"")), name=name)
    assert GROWN.decode(GROWN.encode(record)) == record


def test_older_records_get_defaults() -> None:
    assert GROWN.decode(SMALL.encode(Small(order=1, body=b"x"))) == Grown(order=1, body=b"x")


def test_unknown_fields_and_compatible_bits_survive_a_rewrite() -> None:
    newer = Grown(order=1, parts=(Inner(7, b"z"),), name="kept", flags=Flags(compatible=8))
    seen = SMALL.decode(GROWN.encode(newer))
    assert seen.order == 1
    rewritten = SMALL.encode(msgspec.structs.replace(seen, order=2))
    assert GROWN.decode(rewritten) == msgspec.structs.replace(newer, order=2)


def test_unknown_incompatible_bits_are_refused_and_known_ones_read() -> None:
    data = SMALL.encode(Small(order=1, flags=Flags(incompatible=4)))
    with pytest.raises(FutureVersion, match="Small"):
        SMALL.decode(data)
    assert Codec(Small, incompatible=4).decode(data).flags == Flags(incompatible=4)


def test_a_later_version_is_refused() -> None:
    with pytest.raises(FutureVersion, match="version 2"):
        SMALL.decode(msgspec.msgpack.encode([2, None, 5, b""]))


def test_more_than_fifteen_fields() -> None:
    assert WIDE.decode(WIDE.encode(Wide(p=9))) == Wide(p=9)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x94",
        b"junk",
        b"\x91" * 100_000,
        b"\xa3\x00\x00\x80",
        b"\x94\x01\xc0" + b"\x91" * 100_000,
        msgspec.msgpack.encode([1]),
        msgspec.msgpack.encode([1, None]),
        msgspec.msgpack.encode([1, None, "five", b""]),
        msgspec.msgpack.encode([1, [1], 5, b""]),
        msgspec.msgpack.encode([1, [0, -1], 5, b""]),
        msgspec.msgpack.encode([0, None, 5, b""]),
        msgspec.msgpack.encode({"order": 1}),
        SMALL.encode(Small(order=5, body=b"abc"))[:-1],
        SMALL.encode(Small(order=5, body=b"abc")) + b"\x00",
    ],
)
def test_damage_is_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        SMALL.decode(data)


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        record = GROWN.decode(data)
    except (Corrupt, FutureVersion):
        return
    assert GROWN.decode(GROWN.encode(record)) == record


def test_types_that_break_the_rules_are_refused() -> None:
    class Untagged(Record, kw_only=True, frozen=True):
        order: int = 0

    class Positional(Record, tag=1, frozen=True):
        order: int

    for wrong in (Untagged, Positional):
        with pytest.raises(TypeError):
            Codec(wrong)


def test_an_entry_of_the_feed_in_a_form_that_is_not_known_is_refused_not_passed_over() -> None:
    row = FEED_ROW.encode(FeedRow(time_us=1, keys=(b"\x10key",)))
    assert list(FeedChange(1, row).under(b"\x10k")) == [b"\x10key"]
    assert list(FeedChange(1, row).under(b"\x20")) == []
    with pytest.raises(FutureVersion):
        FeedChange(1, row.replace(b"\x94\x01", b"\x94\x02", 1)).under(b"\x20")
