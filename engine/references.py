"""Who uses a target (a body, a manifest): rows, never counters.

A target is alive while its ALIVE row exists. The row's value is one referrer (or empty): nearly every target has
exactly one, which so costs no row of its own. Further referrers are rows `REFERENCE ‖ target ‖ referrer`. Every add
reads the ALIVE row and the last remove deletes it, so under a serializable catalog the two can't both succeed: a copy
never ends up pointing at something that a concurrent delete let go.
"""

from __future__ import annotations

from catalog.interface import Reader, Transaction
from engine.errors import EngineError
from engine.layout_data import ALIVE, REFERENCE, prefix_end


class TargetGone(EngineError):
    """The target lost its last reference: what led here (a version, a part) is gone too; look again."""


def create(txn: Transaction, target: bytes, referrer: bytes = b"") -> None:
    """Bring a new target to life, with its first referrer if known already. `target` must be a fresh id."""
    txn.put(ALIVE + target, referrer)


async def add(txn: Transaction, target: bytes, referrer: bytes) -> None:
    """Record that `referrer` (not empty) uses `target`; adding it twice is adding it once. Raises TargetGone."""
    first = await txn.get(ALIVE + target)
    if first is None:
        raise TargetGone("the referenced target is gone")
    if first == referrer:
        return
    if first == b"":
        txn.put(ALIVE + target, referrer)
    else:
        txn.put(REFERENCE + target + referrer, b"")


async def remove(txn: Transaction, target: bytes, referrer: bytes) -> bool:
    """Forget one reference. True when it was the last one: the target is dead from now on, and the caller queues what
    it held (`Bodies.release` for a body). False as well when the target was dead already."""
    first = await txn.get(ALIVE + target)
    if first is None:
        return False
    prefix = REFERENCE + target
    txn.delete(prefix + referrer)
    if first == referrer:
        first = b""
        txn.put(ALIVE + target, b"")
    if first or await txn.scan(prefix, prefix_end(prefix), limit=1, keys_only=True):
        return False
    txn.delete(ALIVE + target)
    return True


async def is_alive(reader: Reader, target: bytes) -> bool:
    return await reader.get(ALIVE + target) is not None


async def referrers(reader: Reader, target: bytes, *, limit: int = 1000) -> list[bytes]:
    """Up to `limit` referrers, for checks and repair tools."""
    first = await reader.get(ALIVE + target)
    prefix = REFERENCE + target
    rows = await reader.scan(prefix, prefix_end(prefix), limit=limit, keys_only=True)
    return ([first] if first else []) + [key[len(prefix) :] for key, _ in rows]
