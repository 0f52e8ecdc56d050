"""How many buckets a user may own: as many as its own quota says, else the default of all. Nothing bounds root.

Asked within the transaction that makes a bucket, so a quota counts at every gateway from the moment at which it is set:
of a bucket and a lowered quota one is serialized first.
"""

from __future__ import annotations

from collections.abc import Mapping

from accounts.layout import QUOTA, QUOTAS, QUOTAS_END, quota_key
from catalog.interface import Reader

#: The largest quota: up to so many buckets are counted whenever their owner makes one more.
MOST_BUCKETS = 100_000
_PAGE = 500


def is_quota(buckets: int) -> bool:
    """Whether a user can be given this quota."""
    return 0 <= buckets <= MOST_BUCKETS


class Quotas:
    """Knows every user's quota; the engine's BucketQuota fits, wiring joins them.

    `declared`: canonical id → quota (None for none) of the users that the configuration declares, for whom nothing
    stored counts; `default` is of users without a quota of their own, None for no limit.
    """

    def __init__(self, root: str, declared: Mapping[str, int | None], default: int | None = None) -> None:
        self._root = root
        self._declared = {**declared, root: None}
        self._default = default

    async def most_buckets(self, txn: Reader, owner: str) -> int | None:
        """None for no limit."""
        if owner in self._declared:
            own = self._declared[owner]
        else:
            value = await txn.get(quota_key(owner))
            own = None if value is None else QUOTA.decode(value).max_buckets
        return self.default(owner) if own is None else own

    def default(self, owner: str) -> int | None:
        """What holds for a user without a quota of its own."""
        return None if owner == self._root else self._default

    async def own(self, reader: Reader) -> dict[str, int]:
        """Every quota that a user has of its own, by canonical id."""
        found: dict[str, int | None] = {}
        start = QUOTAS
        while rows := await reader.scan(start, QUOTAS_END, limit=_PAGE):
            found.update((key[len(QUOTAS) :].decode(), QUOTA.decode(value).max_buckets) for key, value in rows)
            start = rows[-1][0] + b"\x00"
        found.update(self._declared)
        return {owner: own for owner, own in found.items() if own is not None}
