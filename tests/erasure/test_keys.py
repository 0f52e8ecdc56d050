"""Keys below the bucket key: derivation, and wraps that open in one context only."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from erasure.errors import WrongKey
from erasure.keys import (
    WRAPPED_LENGTH,
    body_key,
    new_key,
    unwrap_body_key,
    unwrap_content_key,
    wrap_body_key,
    wrap_content_key,
)

BUCKET_KEY, CONTENT_KEY = bytes(range(32)), bytes(range(32, 64))
BUCKET, MANIFEST, BODY = bytes([1] * 16), bytes([2] * 16), bytes([3] * 16)


def wrapped() -> bytes:
    return wrap_content_key(BUCKET_KEY, CONTENT_KEY, bucket_id=BUCKET, manifest_id=MANIFEST, plain_length=77)


def test_a_wrapped_content_key_opens_in_its_own_context() -> None:
    opened = unwrap_content_key(BUCKET_KEY, wrapped(), bucket_id=BUCKET, manifest_id=MANIFEST, plain_length=77)
    assert opened == CONTENT_KEY
    assert len(wrapped()) == WRAPPED_LENGTH
    assert wrapped() != wrapped()  # a fresh salt each time
    assert CONTENT_KEY not in wrapped()


@pytest.mark.parametrize(
    ("key", "bucket", "manifest", "length"),
    [
        (CONTENT_KEY, BUCKET, MANIFEST, 77),
        (BUCKET_KEY, MANIFEST, MANIFEST, 77),
        (BUCKET_KEY, BUCKET, BUCKET, 77),
        (BUCKET_KEY, BUCKET, MANIFEST, 78),
    ],
    ids=["key", "bucket", "manifest", "length"],
)
def test_a_content_key_does_not_open_elsewhere(key: bytes, bucket: bytes, manifest: bytes, length: int) -> None:
    with pytest.raises(WrongKey):
        unwrap_content_key(key, wrapped(), bucket_id=bucket, manifest_id=manifest, plain_length=length)


@pytest.mark.parametrize("bit", range(0, WRAPPED_LENGTH * 8, 37))
def test_a_flipped_wrap_does_not_open_and_leaks_nothing(bit: int) -> None:
    data = bytearray(wrapped())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WrongKey) as caught:
        unwrap_content_key(BUCKET_KEY, bytes(data), bucket_id=BUCKET, manifest_id=MANIFEST, plain_length=77)
    assert BUCKET_KEY.hex() not in str(caught.value)


@pytest.mark.parametrize("data", [b"", bytes(63), bytes(65)])
def test_wraps_of_other_lengths_are_refused(data: bytes) -> None:
    with pytest.raises(WrongKey, match="64 bytes"):
        unwrap_content_key(BUCKET_KEY, data, bucket_id=BUCKET, manifest_id=MANIFEST, plain_length=77)
    with pytest.raises(WrongKey, match="64 bytes"):
        unwrap_body_key(CONTENT_KEY, data, body_id=BODY)


def test_a_taken_bodys_key_opens_for_that_body_only() -> None:
    key = body_key(CONTENT_KEY, BODY)
    other = new_key()
    taken = wrap_body_key(other, key, body_id=BODY)
    assert unwrap_body_key(other, taken, body_id=BODY) == key
    for above, body in ((CONTENT_KEY, BODY), (other, MANIFEST)):
        with pytest.raises(WrongKey):
            unwrap_body_key(above, taken, body_id=body)


def test_the_two_wraps_are_not_exchangeable() -> None:
    taken = wrap_body_key(BUCKET_KEY, CONTENT_KEY, body_id=BODY)
    with pytest.raises(WrongKey):
        unwrap_content_key(BUCKET_KEY, taken, bucket_id=BODY, manifest_id=BODY, plain_length=0)


def test_each_body_has_its_own_key() -> None:
    keys = {body_key(CONTENT_KEY, bytes([i]) * 16) for i in range(50)} | {body_key(BUCKET_KEY, bytes(16))}
    assert len(keys) == 51
    assert all(len(key) == 32 for key in keys)


@pytest.mark.parametrize(
    "make",
    [
        lambda: body_key(bytes(31), BODY),
        lambda: body_key(CONTENT_KEY, b"short"),
        lambda: wrap_body_key(CONTENT_KEY, bytes(16), body_id=BODY),
        lambda: wrap_body_key(CONTENT_KEY, bytes(32), body_id=BODY, salt=bytes(8)),
        lambda: wrap_content_key(bytes(16), bytes(32), bucket_id=BUCKET, manifest_id=MANIFEST, plain_length=1),
    ],
)
def test_keys_ids_and_salts_of_other_lengths_are_refused(make: Callable[[], bytes]) -> None:
    with pytest.raises(ValueError):
        make()
