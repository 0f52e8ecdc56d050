"""Root, bucket and content keys: wrapping, the check value, and a rotation killed anywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from catalog.interface import Reader
from catalog.memory import MemoryCatalog
from core import crashpoints
from core.errors import StartRefused
from engine.errors import RootKeyRotated
from engine.keyring import Keyring, KeyUnavailable, LocalKeyWrapper, WrongRootKey
from engine.layout_data import BUCKET_KEY, prefix_end
from engine.records_data import BUCKET_KEY_ROW

BUCKETS = 7


class Stop(Exception):
    """Where a process would have died."""


def stop(_: str) -> None:
    raise Stop


async def make(catalog: MemoryCatalog, wrapper: LocalKeyWrapper) -> tuple[Keyring, dict[bytes, tuple[bytes, bytes]]]:
    """A keyring with buckets; each bucket's content key and its wrapped form."""
    keyring = await Keyring.open(catalog, wrapper)
    made: dict[bytes, tuple[bytes, bytes]] = {}
    for _ in range(BUCKETS):
        bucket = os.urandom(16)
        new = keyring.new_bucket_key(bucket)
        await catalog.transact(lambda txn, new=new: keyring.put_bucket_key(txn, new))  # type: ignore[misc]
        content = keyring.new_content_key()
        made[bucket] = (content, await keyring.wrap_content_key(bucket, bucket, 77, content))
    return keyring, made


async def check(catalog: MemoryCatalog, wrapper: LocalKeyWrapper, made: dict[bytes, tuple[bytes, bytes]]) -> None:
    keyring = await Keyring.open(catalog, wrapper)
    for bucket, (content, wrapped) in made.items():
        assert await keyring.unwrap_content_key(bucket, bucket, 77, wrapped) == content


async def wraps(catalog: MemoryCatalog) -> list[tuple[str, ...]]:
    async def scan(reader: Reader) -> list[tuple[bytes, bytes]]:
        return await reader.scan(BUCKET_KEY, prefix_end(BUCKET_KEY), limit=1000)

    rows = await catalog.read(scan)
    return [tuple(key_id for key_id, _ in BUCKET_KEY_ROW.decode(data).wraps) for _, data in rows]


async def test_content_keys_are_bound_to_their_reference() -> None:
    catalog = MemoryCatalog()
    keyring, made = await make(catalog, LocalKeyWrapper(os.urandom(32)))
    bucket, (content, wrapped) = next(iter(made.items()))
    other = next(b for b in made if b != bucket)
    assert await keyring.unwrap_content_key(bucket, bucket, 77, wrapped) == content
    for arguments in ((bucket, bucket, 78), (bucket, other, 77), (other, bucket, 77)):
        with pytest.raises(KeyUnavailable):
            await keyring.unwrap_content_key(*arguments, wrapped)
    key = keyring.body_key(content, b"b" * 16)
    assert keyring.unwrap_body_key(content, b"b" * 16, keyring.wrap_body_key(content, b"b" * 16, key)) == key
    assert key != content


async def test_wrong_root_refuses_to_start() -> None:
    catalog = MemoryCatalog()
    right = LocalKeyWrapper(os.urandom(32))
    await make(catalog, right)
    with pytest.raises(WrongRootKey, match=right.key_id):
        await Keyring.open(catalog, LocalKeyWrapper(os.urandom(32)))


async def test_deleted_bucket_has_no_key() -> None:
    catalog = MemoryCatalog()
    keyring, made = await make(catalog, LocalKeyWrapper(os.urandom(32)))
    bucket, (content, wrapped) = next(iter(made.items()))
    assert keyring.open_keys_now(bucket, bucket, 77, wrapped).content == content
    await catalog.transact(lambda txn: keyring.delete_bucket_keys(txn, bucket))
    keyring.forget(bucket)
    with pytest.raises(KeyError):  # nor what was opened lately
        keyring.open_keys_now(bucket, bucket, 77, wrapped)
    with pytest.raises(KeyUnavailable):
        await keyring.unwrap_content_key(bucket, bucket, 77, wrapped)


async def test_rotation_rewraps_bucket_keys_only() -> None:
    catalog = MemoryCatalog()
    old, new = LocalKeyWrapper(os.urandom(32)), LocalKeyWrapper(os.urandom(32))
    keyring, made = await make(catalog, old)
    assert await keyring.rotate(new) == BUCKETS
    assert await wraps(catalog) == [(new.key_id,)] * BUCKETS
    await check(catalog, new, made)
    with pytest.raises(WrongRootKey):
        await Keyring.open(catalog, old)
    for bucket, (content, wrapped) in made.items():
        assert await keyring.unwrap_content_key(bucket, bucket, 77, wrapped) == content


@pytest.mark.parametrize("point", ["rotation-started", "rotation-batch", "rotation-wrapped", "rotation-switched"])
async def test_rotation_killed_and_run_again(point: str) -> None:
    catalog = MemoryCatalog()
    old, new = LocalKeyWrapper(os.urandom(32)), LocalKeyWrapper(os.urandom(32))
    keyring, made = await make(catalog, old)
    crashpoints.arm(point, stop)
    with pytest.raises(Stop):
        await keyring.rotate(new)
    if point == "rotation-switched":
        await check(catalog, new, made)
        await (await Keyring.open(catalog, new)).finish_rotation()
    else:
        await check(catalog, old, made)
        await (await Keyring.open(catalog, old)).rotate(new)
    await check(catalog, new, made)
    assert await wraps(catalog) == [(new.key_id,)] * BUCKETS


async def test_bucket_created_with_a_key_of_the_old_root_is_refused() -> None:
    catalog = MemoryCatalog()
    keyring, _ = await make(catalog, LocalKeyWrapper(os.urandom(32)))
    late = keyring.new_bucket_key(os.urandom(16))
    await keyring.rotate(LocalKeyWrapper(os.urandom(32)))
    with pytest.raises(RootKeyRotated):
        await catalog.transact(lambda txn: keyring.put_bucket_key(txn, late))


async def test_who_expects_the_next_root_goes_on_over_a_rotation() -> None:
    """And who was not told says so: a bucket whose key it can't open is there all the same."""
    catalog = MemoryCatalog()
    old, new = LocalKeyWrapper(os.urandom(32)), LocalKeyWrapper(os.urandom(32))
    rotating, _ = await make(catalog, old)
    told, untold = await Keyring.open(catalog, old), await Keyring.open(catalog, old)
    told.expect(new)
    await rotating.rotate(new)
    made = rotating.new_bucket_key(os.urandom(16))
    await catalog.transact(lambda txn: rotating.put_bucket_key(txn, made))
    content = told.new_content_key()
    wrapped = await told.wrap_content_key(made.bucket_id, made.bucket_id, 77, content)
    assert await rotating.unwrap_content_key(made.bucket_id, made.bucket_id, 77, wrapped) == content
    late = told.new_bucket_key(os.urandom(16))
    await catalog.transact(lambda txn: told.put_bucket_key(txn, late))
    await rotating.finish_rotation()
    assert await wraps(catalog) == [(new.key_id,)] * (BUCKETS + 2)
    with pytest.raises(RootKeyRotated):
        await untold.wrap_content_key(made.bucket_id, made.bucket_id, 77, content)
    with pytest.raises(RootKeyRotated):
        await untold.unwrap_content_key(made.bucket_id, made.bucket_id, 77, wrapped)


def test_root_key_files(tmp_path: Path) -> None:
    root = os.urandom(32)
    (tmp_path / "raw").write_bytes(root)
    (tmp_path / "hex").write_text(root.hex() + "\n")
    assert LocalKeyWrapper.from_file(tmp_path / "raw").key_id == LocalKeyWrapper.from_file(tmp_path / "hex").key_id
    (tmp_path / "bad").write_text("nonsense")
    for name in ("bad", "absent"):
        with pytest.raises(StartRefused):
            LocalKeyWrapper.from_file(tmp_path / name)
    assert root.hex() not in repr(LocalKeyWrapper(root))
