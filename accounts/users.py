"""Users in the catalog: add, remove, list; more keys, fewer keys, quotas."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from accounts.errors import DeclaredUser, InvalidUser, NoSuchAccessKey, NoSuchUser, RootHasNoQuota, UserExists
from accounts.layout import (
    QUOTA,
    USER,
    USERS,
    USERS_END,
    KeyRecord,
    QuotaRecord,
    UserRecord,
    access_key_key,
    id_key,
    quota_key,
    secret_context,
    user_key,
)
from accounts.quotas import MOST_BUCKETS, is_quota
from accounts.types import AccessKey, SecretWrapper, User, check_access_key, check_user, new_access_key
from accounts.types import new_canonical_id as new_id
from catalog.interface import Catalog, Reader, Transaction
from core.access import PrincipalKind
from core.clock import Clock

_PAGE = 500


def open_user(record: UserRecord, wrapper: SecretWrapper) -> User:
    """The user of a record, secrets opened."""
    keys = tuple(
        AccessKey(key.id, wrapper.unwrap(key.sealed_secret, secret_context(key.id)).decode(), key.created_us)
        for key in record.keys
    )
    return User(record.id, record.name, record.email, keys)


async def scan_users(reader: Reader) -> list[UserRecord]:
    """Every stored user, by name."""
    found: list[UserRecord] = []
    start = USERS
    while rows := await reader.scan(start, USERS_END, limit=_PAGE):
        found.extend(USER.decode(value) for _, value in rows)
        start = rows[-1][0] + b"\x00"
    return found


class UserStore:
    """Users that were made at run time. `declared` are those of the configuration (and root): listed, never changed."""

    def __init__(self, catalog: Catalog, wrapper: SecretWrapper, clock: Clock, declared: Sequence[User] = ()) -> None:
        self._catalog = catalog
        self._wrapper = wrapper
        self._clock = clock
        self._declared = {user.name: user for user in declared}

    async def add(
        self, name: str, *, email: str = "", canonical_id: str = "", access_key_id: str = "", secret: str = ""
    ) -> User:
        """Make a user with one access key; what is not given is random. Raises InvalidUser, UserExists."""
        now = self._clock.now_us()
        key = AccessKey(access_key_id, secret, now) if access_key_id or secret else new_access_key(now)
        user = User(canonical_id or new_id(), name, email, (key,))
        check_user(user)
        for other in self._declared.values():
            self._refuse_clash(user, other)
        record = UserRecord(name=name, id=user.id, email=email, created_us=now, keys=(self._seal(key),))

        async def write(txn: Transaction) -> None:
            taken = await txn.get_many([user_key(name), id_key(user.id), access_key_key(key.id)])
            for value, (field, text) in zip(
                taken, (("name", name), ("id", user.id), ("access key", key.id)), strict=True
            ):
                if value is not None:
                    raise UserExists(field, text)
            txn.put(user_key(name), USER.encode(record))
            txn.put(id_key(user.id), name.encode())
            txn.put(access_key_key(key.id), name.encode())
            txn.delete(quota_key(user.id))  # of one whom a release removed that knows no quotas

        await self._catalog.transact(write)
        return user

    async def remove(self, name: str) -> None:
        """Remove a user, its keys and its quota; its buckets stay and belong to nobody but root. Raises NoSuchUser,
        DeclaredUser."""
        self._refuse_declared(name)

        async def write(txn: Transaction) -> None:
            record = await self._get(txn, name)
            txn.delete(user_key(name))
            txn.delete(id_key(record.id))
            txn.delete(quota_key(record.id))
            for key in record.keys:
                txn.delete(access_key_key(key.id))

        await self._catalog.transact(write)

    async def add_key(self, name: str, *, access_key_id: str = "", secret: str = "") -> AccessKey:
        """Give a user one more access key. Raises InvalidUser, NoSuchUser, UserExists, DeclaredUser."""
        self._refuse_declared(name)
        now = self._clock.now_us()
        key = AccessKey(access_key_id, secret, now) if access_key_id or secret else new_access_key(now)
        check_access_key(key)
        if any(key.id == held.id for user in self._declared.values() for held in user.keys):
            raise UserExists("access key", key.id)
        sealed = self._seal(key)

        async def write(txn: Transaction) -> None:
            record = await self._get(txn, name)
            if await txn.get(access_key_key(key.id)) is not None:
                raise UserExists("access key", key.id)
            kept = replace(record, keys=(*record.keys, sealed))
            txn.put(user_key(name), USER.encode(kept))
            txn.put(access_key_key(key.id), name.encode())

        await self._catalog.transact(write)
        return key

    async def remove_key(self, access_key_id: str) -> None:
        """Revoke an access key. Raises NoSuchAccessKey; DeclaredUser for a key of the configuration."""
        for user in self._declared.values():
            if any(key.id == access_key_id for key in user.keys):
                raise DeclaredUser(user.name)

        async def write(txn: Transaction) -> None:
            name = await txn.get(access_key_key(access_key_id))
            if name is None:
                raise NoSuchAccessKey(access_key_id)
            record = await self._get(txn, name.decode())
            keys = tuple(key for key in record.keys if key.id != access_key_id)
            txn.put(user_key(record.name), USER.encode(replace(record, keys=keys)))
            txn.delete(access_key_key(access_key_id))

        await self._catalog.transact(write)

    async def set_quota(self, name: str, *, max_buckets: int | None) -> None:
        """How many buckets the user may own; None: as many as the default says. Those that it owns stay, whatever the
        number. Raises InvalidUser, NoSuchUser, DeclaredUser, RootHasNoQuota."""
        if max_buckets is not None and not is_quota(max_buckets):
            raise InvalidUser("quota", f"0 to {MOST_BUCKETS} buckets")
        if name in self._declared and self._declared[name].kind is PrincipalKind.ROOT:
            raise RootHasNoQuota
        self._refuse_declared(name)

        async def write(txn: Transaction) -> None:
            key = quota_key((await self._get(txn, name)).id)
            present = await txn.get(key)
            record = QuotaRecord() if present is None else QUOTA.decode(present)
            txn.put(key, QUOTA.encode(replace(record, max_buckets=max_buckets)))

        await self._catalog.transact(write)

    async def list(self) -> list[User]:
        """Declared users first, then stored ones by name."""
        records = await self._catalog.read(scan_users)
        return [*self._declared.values(), *(open_user(record, self._wrapper) for record in records)]

    def _seal(self, key: AccessKey) -> KeyRecord:
        return KeyRecord(key.id, self._wrapper.wrap(key.secret.encode(), secret_context(key.id)), key.created_us)

    def _refuse_declared(self, name: str) -> None:
        if name in self._declared:
            raise DeclaredUser(name)

    @staticmethod
    def _refuse_clash(user: User, other: User) -> None:
        held = {key.id for key in other.keys}
        if user.name == other.name:
            raise UserExists("name", user.name)
        if user.id == other.id:
            raise UserExists("id", user.id)
        if clash := next((key.id for key in user.keys if key.id in held), None):
            raise UserExists("access key", clash)

    @staticmethod
    async def _get(txn: Transaction, name: str) -> UserRecord:
        value = await txn.get(user_key(name))
        if value is None:
            raise NoSuchUser(name)
        return USER.decode(value)
