"""Users and access keys in memory, asked on every request and fed by the catalog's change feed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence

from accounts.errors import UserExists
from accounts.layout import USER, USERS, UserRecord, user_key
from accounts.types import SecretWrapper, User, check_user
from accounts.users import open_user, scan_users
from catalog.errors import FeedTrimmed
from catalog.interface import Catalog, Reader
from core.access import Principal

logger = logging.getLogger("atoll.accounts")

_RETRY_SECONDS = 0.5
_PAUSE_SECONDS = 0.05  # between two looks at the feed: under load there is a commit every few milliseconds
_CHANGES = 1000  # that are asked for at once


class Directory:
    """Answers who owns an access key, a canonical id or an e-mail address, without waiting.

    `declared` users (configuration, root) win over stored ones that claim the same key or id. `start` loads the
    stored ones and follows the feed until `close`. Raises UserExists when two declared users clash.
    """

    def __init__(self, catalog: Catalog, wrapper: SecretWrapper, declared: Sequence[User] = ()) -> None:
        self._catalog = catalog
        self._wrapper = wrapper
        self._declared = tuple(declared)
        self._stored: dict[str, User] = {}
        self._keys: dict[str, tuple[Principal, str]] = {}
        self._ids: dict[str, User] = {}
        self._emails: dict[str, User] = {}
        self._follower: asyncio.Task[None] | None = None
        self._position: int | None = None  # the feed up to here was applied
        self._one = asyncio.Lock()  # of two that read users, the one that read later must apply later
        _refuse_clashes(self._declared)
        self._index()

    async def start(self) -> None:
        """Load every stored user, then follow changes in a task of our own."""
        sequence = await self._load()
        self._follower = asyncio.create_task(self._follow(sequence), name="accounts-directory")

    async def close(self) -> None:
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower
            self._follower = None

    def lookup(self, access_key_id: str) -> tuple[Principal, str] | None:
        """The key's principal and secret; None for an unknown or revoked key."""
        return self._keys.get(access_key_id)

    async def catch_up(self) -> None:
        """Count what was committed until now, by whichever process, without waiting for the next look at the feed: for
        a key that is not known. Raises CatalogError."""
        if self._position is not None:
            with contextlib.suppress(FeedTrimmed):  # then all are about to be read anew
                await self._apply(self._position)

    def by_id(self, canonical_id: str) -> User | None:
        return self._ids.get(canonical_id)

    def by_email(self, email: str) -> User | None:
        return self._emails.get(email.casefold())

    def users(self) -> list[User]:
        """Declared users first, then stored ones by name."""
        return [*self._declared, *(self._stored[name] for name in sorted(self._stored))]

    async def _load(self) -> int:
        async with self._one:
            # The sequence is taken first: what commits in between is seen twice, never missed.
            sequence = await self._catalog.sequence()
            records = await self._catalog.read(scan_users)
            self._stored = {}
            for record in records:
                self._admit(record)
            self._index()
        return sequence

    def _admit(self, record: UserRecord) -> None:
        """Know a stored user. One whose secrets don't open is unknown, so its keys are refused; others are not held
        up by it."""
        try:
            self._stored[record.name] = open_user(record, self._wrapper)
        except Exception:
            logger.exception("the secrets of a user do not open: its keys are refused")
            self._stored.pop(record.name, None)

    async def _follow(self, sequence: int | None) -> None:
        while True:
            self._position = sequence
            try:
                sequence = await (self._load() if sequence is None else self._advance(sequence))
                await asyncio.sleep(_PAUSE_SECONDS)
            except Exception:  # a feed that fails once must not end revocation for good
                logger.exception("the change feed of users could not be followed; reading all users anew")
                sequence = None
                await asyncio.sleep(_RETRY_SECONDS)

    async def _advance(self, sequence: int) -> int:
        """Wait for commits after `sequence` and apply them; the sequence to go on from."""
        newest = await self._catalog.wait_changes(sequence)
        try:
            # The feed leaves out commits of leases and epochs, so its last entry may be older than the newest.
            return max(newest, await self._apply(sequence))
        except FeedTrimmed:
            return await self._load()

    async def _apply(self, after: int) -> int:
        names: set[str] = set()
        more = True
        while more:
            changes = await self._catalog.changes(after, limit=_CHANGES)
            names.update(key[len(USERS) :].decode() for change in changes for key in change.under(USERS))
            after = changes[-1].sequence if changes else after
            more = len(changes) == _CHANGES
        if names:
            await self._refresh(sorted(names))
        return after

    async def _refresh(self, names: Sequence[str]) -> None:
        async def fetch(reader: Reader) -> list[bytes | None]:
            return await reader.get_many([user_key(name) for name in names])

        async with self._one:
            for name, value in zip(names, await self._catalog.read(fetch), strict=True):
                if value is None:
                    self._stored.pop(name, None)
                else:
                    self._admit(USER.decode(value))
            self._index()

    def _index(self) -> None:
        keys: dict[str, tuple[Principal, str]] = {}
        ids: dict[str, User] = {}
        emails: dict[str, User] = {}
        for user in (*self._declared, *self._stored.values()):
            # The first one wins, so a stored user can't take over what the configuration declares.
            if ids.setdefault(user.id, user) is not user:
                continue
            if user.email:
                emails.setdefault(user.email.casefold(), user)
            for key in user.keys:
                keys.setdefault(key.id, (Principal(user.kind, user.id, user.name, key.id), key.secret))
        self._keys, self._ids, self._emails = keys, ids, emails


def _refuse_clashes(users: Iterable[User]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for user in users:
        check_user(user)
        claims = [("name", user.name), ("id", user.id), *(("access key", key.id) for key in user.keys)]
        for claim in claims:
            if claim in seen:
                raise UserExists(*claim)
            seen[claim] = user.name
