"""The in-memory directory: who a key belongs to, and how fast a revoked one is forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from accounts.directory import Directory
from accounts.errors import UserExists
from accounts.types import AccessKey, User
from accounts.users import UserStore
from catalog.errors import FeedTrimmed
from catalog.interface import Catalog, Change, Transaction
from catalog.memory import MemoryCatalog
from catalog.prefixes import LEASE
from core.access import PrincipalKind
from tests.accounts.conftest import DECLARED, ROOT, SealingWrapper


async def _within_a_second(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 1
    while not condition():
        assert time.monotonic() < deadline, "the change did not arrive within 1 s"
        await asyncio.sleep(0.005)


async def test_declared_users_are_known_at_once(directory: Directory) -> None:
    found = directory.lookup("ROOTKEY")
    assert found is not None
    assert found[0].kind is PrincipalKind.ROOT
    assert found[1] == "root-secret"
    assert directory.by_email("Carol@Example.com") == DECLARED
    assert directory.by_id(DECLARED.id) == DECLARED
    assert directory.lookup("NOKEY") is None


async def test_stored_users_are_loaded_at_start(users: UserStore, catalog: Catalog, wrapper: SealingWrapper) -> None:
    made = await users.add("alice")
    directory = Directory(catalog, wrapper, (ROOT,))
    await directory.start()
    found = directory.lookup(made.keys[0].id)
    await directory.close()
    assert found is not None
    assert found[0].name == "alice"
    assert found[1] == made.keys[0].secret


async def test_new_key_works_and_revoked_key_is_refused_within_a_second(users: UserStore, directory: Directory) -> None:
    made = await users.add("alice")
    key = made.keys[0].id
    await _within_a_second(lambda: directory.lookup(key) is not None)
    await users.remove_key(key)
    await _within_a_second(lambda: directory.lookup(key) is None)
    assert directory.by_id(made.id) is not None


async def test_removed_user_is_forgotten(users: UserStore, directory: Directory) -> None:
    made = await users.add("alice", email="alice@example.com")
    await _within_a_second(lambda: directory.by_id(made.id) is not None)
    await users.remove("alice")
    await _within_a_second(lambda: directory.by_id(made.id) is None)
    assert directory.lookup(made.keys[0].id) is None
    assert directory.by_email("alice@example.com") is None


async def test_stored_user_cannot_take_over_a_declared_key(catalog: Catalog, wrapper: SealingWrapper) -> None:
    """The configuration may declare a key that was stored before: the declared user wins."""
    await UserStore(catalog, wrapper, _CLOCK).add("mallory", access_key_id="CAROLKEY", secret="stored-secret")
    directory = Directory(catalog, wrapper, (DECLARED,))
    await directory.start()
    found = directory.lookup("CAROLKEY")
    await directory.close()
    assert found is not None
    assert (found[0].name, found[1]) == ("carol", "carol-secret")


async def test_declared_users_that_clash_refuse_to_start(catalog: Catalog, wrapper: SealingWrapper) -> None:
    twin = User("b" * 64, "dave", keys=(AccessKey("CAROLKEY", "other-secret"),), declared=True)
    with pytest.raises(UserExists):
        Directory(catalog, wrapper, (DECLARED, twin))


class _Trimmed(MemoryCatalog):
    """A catalog whose feed never reaches back far enough."""

    async def changes(self, after: int, *, limit: int = 1000) -> list[Change]:
        raise FeedTrimmed(after + 1)


async def test_trimmed_feed_means_reading_all_users(wrapper: SealingWrapper) -> None:
    catalog = _Trimmed()
    directory = Directory(catalog, wrapper, ())
    await directory.start()
    made = await UserStore(catalog, wrapper, _CLOCK).add("alice")
    await _within_a_second(lambda: directory.lookup(made.keys[0].id) is not None)
    await directory.close()
    await catalog.close()


async def test_user_whose_secrets_do_not_open_is_refused_and_holds_nobody_up(
    catalog: Catalog, wrapper: SealingWrapper, directory: Directory
) -> None:
    sealed_elsewhere = await UserStore(catalog, SealingWrapper(), _CLOCK).add("mallory")
    made = await UserStore(catalog, wrapper, _CLOCK).add("alice")
    await _within_a_second(lambda: directory.lookup(made.keys[0].id) is not None)
    assert directory.lookup(sealed_elsewhere.keys[0].id) is None


class _Frozen:
    def now_us(self) -> int:
        return 1

    def monotonic(self) -> float:
        return 1.0


_CLOCK = _Frozen()


async def test_commits_that_the_feed_leaves_out_do_not_keep_the_loop_busy(
    catalog: Catalog, directory: Directory
) -> None:
    """A lease's commit advances the sequence without a feed entry; following must go back to sleep after it."""

    async def touch(txn: Transaction) -> None:
        txn.put(LEASE + b"some-lease", b"1")

    await catalog.transact(touch)
    started = time.monotonic()
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert time.monotonic() - started < 1
    assert directory.lookup("ROOTKEY") is not None
