"""Order-preserving key parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import keys
from catalog.errors import Corrupt
from catalog.interface import MAX_KEY

# Zero and FF bytes are where escaping can go wrong, so they are common here.
awkward = st.lists(st.sampled_from([b"\x00", b"\x01", b"\xfe", b"\xff", b"a", b"/"]), max_size=12).map(b"".join)
numbers = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 255, 256, 2**32, 2**63, 2**64 - 1]))


@given(st.lists(st.tuples(awkward, awkward, numbers), max_size=8))
def test_tuples_sort_like_their_keys(values: list[tuple[bytes, bytes, int]]) -> None:
    def key(value: tuple[bytes, bytes, int]) -> bytes:
        return keys.terminated(value[0]) + keys.terminated(value[1]) + keys.u64(value[2])

    assert [key(value) for value in sorted(values)] == sorted(key(value) for value in values)


@given(st.tuples(awkward, numbers, awkward, numbers, st.integers(0, 2**32 - 1)))
def test_parts_read_back(value: tuple[bytes, int, bytes, int, int]) -> None:
    key = (
        keys.terminated(value[0])
        + keys.u64(value[1])
        + keys.terminated(value[2])
        + keys.inverted_u64(value[3])
        + keys.u32(value[4])
    )
    first, offset = keys.read_terminated(key, 0)
    second, offset = keys.read_u64(key, offset)
    third, offset = keys.read_terminated(key, offset)
    fourth, offset = keys.read_inverted_u64(key, offset)
    fifth, offset = keys.read_u32(key, offset)
    assert (first, second, third, fourth, fifth) == value
    assert offset == len(key)


@given(numbers, numbers)
def test_inverted_numbers_sort_backwards(a: int, b: int) -> None:
    assert (keys.inverted_u64(a) < keys.inverted_u64(b)) == (a > b)


@given(awkward, awkward)
def test_escaped_is_a_prefix_exactly_of_those_that_begin_so(prefix: bytes, value: bytes) -> None:
    assert keys.terminated(value).startswith(keys.escaped(prefix)) == value.startswith(prefix)


@given(awkward, awkward)
def test_prefix_end_is_above_all_with_the_prefix_and_nothing_else(prefix: bytes, key: bytes) -> None:
    end = keys.prefix_end(prefix)
    assert (prefix <= key < end) == key.startswith(prefix)
    assert prefix + b"\xff" * (MAX_KEY - len(prefix)) < end


@given(st.text(max_size=20), st.text(max_size=20))
def test_utf8_order_is_kept(a: str, b: str) -> None:
    assert (
        keys.terminated(a.encode("utf-8", "surrogatepass")) < keys.terminated(b.encode("utf-8", "surrogatepass"))
    ) == (a < b)


@pytest.mark.parametrize("damaged", [b"abc", b"a\x00\xff", b"a\x00\x02b\x00\x01"])
def test_a_damaged_part_is_refused(damaged: bytes) -> None:
    with pytest.raises(Corrupt):
        keys.read_terminated(damaged, 0)


@pytest.mark.parametrize("read", [keys.read_u32, keys.read_u64, keys.read_inverted_u64])
def test_a_cut_number_is_refused(read: object) -> None:
    with pytest.raises(Corrupt):
        read(b"abc", 0)  # type: ignore[operator]
