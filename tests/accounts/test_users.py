"""Users and access keys in the catalog."""

from __future__ import annotations

import pytest

from accounts.errors import DeclaredUser, InvalidUser, NoSuchAccessKey, NoSuchUser, UserExists
from accounts.layout import USERS, USERS_END
from accounts.users import UserStore
from catalog.interface import Catalog, Reader
from tests.accounts.conftest import DECLARED, ROOT, SealingWrapper


async def test_added_user_is_listed_with_its_secret(users: UserStore) -> None:
    made = await users.add("alice", email="alice@example.com")
    assert [user.name for user in await users.list()] == ["root", "carol", "alice"]
    assert (await users.list())[2] == made
    assert len(made.id) == 64
    assert len(made.keys[0].secret) == 40


async def test_secret_is_never_stored_in_the_clear(users: UserStore, catalog: Catalog) -> None:
    made = await users.add("alice", access_key_id="ALICEKEY", secret="a-plain-secret")

    async def values(reader: Reader) -> bytes:
        return b"".join(value for _, value in await reader.scan(USERS, USERS_END, limit=10))

    stored = await catalog.read(values)
    assert b"ALICEKEY" in stored
    assert b"a-plain-secret" not in stored
    assert "a-plain-secret" not in repr(made)


async def test_sealed_secret_is_bound_to_its_access_key(users: UserStore, wrapper: SealingWrapper) -> None:
    sealed = wrapper.wrap(b"secret", b"atoll/secret/1ONE")
    with pytest.raises(Exception, match=r"^$"):
        wrapper.unwrap(sealed, b"atoll/secret/1TWO")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"name": "alice", "access_key_id": "OTHER", "secret": "12345678"}, "name"),
        ({"name": "bob", "canonical_id": "alice-id"}, "id"),
        ({"name": "bob", "access_key_id": "ALICEKEY", "secret": "12345678"}, "access key"),
        ({"name": "root"}, "name"),
        ({"name": "bob", "canonical_id": DECLARED.id}, "id"),
        ({"name": "bob", "access_key_id": "ROOTKEY", "secret": "12345678"}, "access key"),
    ],
)
async def test_what_another_user_has_is_refused(users: UserStore, arguments: dict[str, str], field: str) -> None:
    await users.add("alice", canonical_id="alice-id", access_key_id="ALICEKEY", secret="12345678")
    with pytest.raises(UserExists) as refusal:
        await users.add(arguments.pop("name"), **arguments)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": " bob"}, "name"),
        ({"name": "b\nob"}, "name"),
        ({"name": "bob", "canonical_id": "has space"}, "id"),
        ({"name": "bob", "email": "nobody"}, "e-mail address"),
        ({"name": "bob", "access_key_id": "a/b", "secret": "12345678"}, "access key"),
        ({"name": "bob", "access_key_id": "abc", "secret": "short"}, "secret key"),
    ],
)
async def test_malformed_users_are_refused(users: UserStore, arguments: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidUser) as refusal:
        await users.add(arguments.pop("name"), **arguments)
    assert refusal.value.field == field


async def test_removed_user_leaves_name_id_and_key_free(users: UserStore) -> None:
    await users.add("alice", canonical_id="alice-id", access_key_id="ALICEKEY", secret="12345678")
    await users.remove("alice")
    again = await users.add("alice", canonical_id="alice-id", access_key_id="ALICEKEY", secret="87654321")
    assert again.keys[0].secret == "87654321"


async def test_unknown_and_declared_users_are_not_removed(users: UserStore) -> None:
    with pytest.raises(NoSuchUser):
        await users.remove("nobody")
    with pytest.raises(DeclaredUser):
        await users.remove(ROOT.name)
    with pytest.raises(DeclaredUser):
        await users.remove_key("CAROLKEY")
    with pytest.raises(NoSuchAccessKey):
        await users.remove_key("NOKEY")


async def test_keys_are_added_and_revoked_one_by_one(users: UserStore) -> None:
    first = (await users.add("alice")).keys[0]
    second = await users.add_key("alice")
    await users.remove_key(first.id)
    assert (await users.list())[2].keys == (second,)
    with pytest.raises(UserExists):
        await users.add_key("alice", access_key_id=second.id, secret="12345678")
