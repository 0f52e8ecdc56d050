"""How many buckets users may own: what is stored, what is declared, and the default."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from accounts.errors import DeclaredUser, InvalidUser, NoSuchUser, RootHasNoQuota
from accounts.layout import QUOTA, QUOTAS, USER, USERS, USERS_END, QuotaRecord, quota_key
from accounts.quotas import MOST_BUCKETS, Quotas
from accounts.users import UserStore
from catalog.errors import FutureVersion
from catalog.interface import Catalog, Reader, Transaction
from catalog.keys import prefix_end
from catalog.records import Flags
from core.clock import SystemClock
from tests.accounts.conftest import DECLARED, ROOT, SealingWrapper

ALICE = "alice-id"


@pytest.fixture
async def alice(users: UserStore) -> UserStore:
    await users.add("alice", canonical_id=ALICE)
    return users


def quotas(declared: int | None = None, default: int | None = None) -> Quotas:
    return Quotas(ROOT.id, {DECLARED.id: declared}, default)


async def most(catalog: Catalog, asked: Quotas, owner: str = ALICE) -> int | None:
    async def ask(txn: Transaction) -> int | None:
        return await asked.most_buckets(txn, owner)

    return await catalog.transact(ask)


async def stored(catalog: Catalog) -> list[tuple[bytes, bytes]]:
    async def look(reader: Reader) -> list[tuple[bytes, bytes]]:
        return await reader.scan(QUOTAS, prefix_end(QUOTAS), limit=10)

    return await catalog.read(look)


async def put(catalog: Catalog, value: bytes) -> None:
    async def write(txn: Transaction) -> None:
        txn.put(quota_key(ALICE), value)

    await catalog.transact(write)


async def test_a_quota_holds_until_it_is_taken_back(alice: UserStore, catalog: Catalog) -> None:
    assert await most(catalog, quotas()) is None
    for number in (3, 0, MOST_BUCKETS):
        await alice.set_quota("alice", max_buckets=number)
        assert await most(catalog, quotas(default=7)) == number
        assert await catalog.read(quotas().own) == {ALICE: number}
    await alice.set_quota("alice", max_buckets=None)
    assert await most(catalog, quotas(default=7)) == 7
    assert await most(catalog, quotas()) is None
    assert await catalog.read(quotas().own) == {}


async def test_the_default_is_of_those_without_a_quota_of_their_own_but_not_of_root(catalog: Catalog) -> None:
    for declared, default, expected in ((None, None, None), (None, 5, 5), (9, 5, 9), (0, None, 0)):
        asked = quotas(declared, default)
        assert await most(catalog, asked, DECLARED.id) == expected
        assert await most(catalog, asked, "whoever") == default
        assert await most(catalog, asked, ROOT.id) is None
        assert await catalog.read(asked.own) == ({} if declared is None else {DECLARED.id: declared})
        assert asked.default(ROOT.id) is None


async def test_nothing_stored_counts_for_a_declared_user_nor_for_root(
    catalog: Catalog, wrapper: SealingWrapper
) -> None:
    """The configuration may declare a user that was stored before."""
    earlier = UserStore(catalog, wrapper, SystemClock())
    for user in (DECLARED, ROOT):
        await earlier.add(user.name, canonical_id=user.id)
        await earlier.set_quota(user.name, max_buckets=1)
    assert await most(catalog, quotas(default=7), DECLARED.id) == 7
    assert await most(catalog, quotas(default=7), ROOT.id) is None
    assert await catalog.read(quotas(4).own) == {DECLARED.id: 4}


async def test_a_quota_goes_with_its_user(alice: UserStore, catalog: Catalog) -> None:
    await alice.set_quota("alice", max_buckets=3)
    await alice.remove("alice")
    assert await stored(catalog) == []
    # Left by a release that removed the user and knows no quotas.
    await put(catalog, QUOTA.encode(QuotaRecord(max_buckets=3)))
    await alice.add("alice", canonical_id=ALICE)
    assert await most(catalog, quotas()) is None


async def test_who_has_no_quota_to_set(alice: UserStore) -> None:
    with pytest.raises(NoSuchUser):
        await alice.set_quota("nobody", max_buckets=3)
    with pytest.raises(DeclaredUser):
        await alice.set_quota(DECLARED.name, max_buckets=3)
    with pytest.raises(RootHasNoQuota):
        await alice.set_quota(ROOT.name, max_buckets=3)


@pytest.mark.parametrize("number", [-1, MOST_BUCKETS + 1, 1 << 70])
async def test_absurd_quotas_are_refused(alice: UserStore, catalog: Catalog, number: int) -> None:
    with pytest.raises(InvalidUser) as refusal:
        await alice.set_quota("alice", max_buckets=number)
    assert refusal.value.field == "quota"
    assert await stored(catalog) == []


async def test_a_users_own_record_is_not_touched(alice: UserStore, catalog: Catalog) -> None:
    """An older release reads and rewrites it beside this one."""

    async def records(reader: Reader) -> list[tuple[bytes, bytes]]:
        return await reader.scan(USERS, USERS_END, limit=10)

    before = await catalog.read(records)
    assert [USER.decode(value).name for _, value in before] == ["alice"]
    await alice.set_quota("alice", max_buckets=3)
    assert await catalog.read(records) == before


async def test_the_stored_form(alice: UserStore, catalog: Catalog) -> None:
    await alice.set_quota("alice", max_buckets=300)
    assert await stored(catalog) == [(b"\x20qalice-id", bytes.fromhex("9301c0cd012c"))]
    await alice.set_quota("alice", max_buckets=None)
    assert await stored(catalog) == [(b"\x20qalice-id", bytes.fromhex("9301c0c0"))]


async def test_what_a_later_release_adds_is_kept_and_what_it_changes_refused(
    alice: UserStore, catalog: Catalog
) -> None:
    added = QUOTA.encode(replace(QuotaRecord(max_buckets=3), flags=Flags(0, 4, ("10 GiB",))))
    await put(catalog, added)
    assert await most(catalog, quotas()) == 3
    await alice.set_quota("alice", max_buckets=5)
    assert QUOTA.decode((await stored(catalog))[0][1]).flags == Flags(0, 4, ("10 GiB",))
    await put(catalog, b"\x93\x02\xc0\x03")
    with pytest.raises(FutureVersion):
        await most(catalog, quotas())
