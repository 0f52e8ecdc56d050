"""Where a row lives in LMDB, whose keys end at 511 bytes while ours may have 2,200.

Keys of up to 510 bytes are LMDB keys of the database `rows` as they are. Longer keys form a trie of groups that keeps
their order: all keys that share their first 510 bytes are one group. `rows` then holds a *marker*, those 510 bytes ‖
00: at 511 bytes it collides with no key, sorts behind the key that equals the prefix and before every other key above
it. The group's keys, without those first bytes, live in the database `long` under the group's 16-byte id, again
directly when they have up to 494 bytes, else in a group of their own. The id is a BLAKE2b hash of what leads to the
group, so a lookup needs no walk and a put no read.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

DIRECT: Final = 510  # longest key that `rows` holds as it is
ID: Final = 16  # length of a group id
TAIL: Final = DIRECT - ID  # longest rest that `long` holds as it is
MARK: Final = b"\x00"


def group_id(parent: bytes, head: bytes) -> bytes:
    """The id of the group of keys with `head` next in the group `parent` (empty at the top)."""
    person = b"atoll-long" if parent else b"atoll-row"
    return hashlib.blake2b(parent + head, digest_size=ID, person=person).digest()


def split(key: bytes) -> tuple[list[bytes], bytes]:
    """A long key's markers, the first one in `rows` and the others in `long`, and its own key in `long`."""
    head, rest = key[:DIRECT], key[DIRECT:]
    markers = [head + MARK]
    group = group_id(b"", head)
    while len(rest) > TAIL:
        head, rest = rest[:TAIL], rest[TAIL:]
        markers.append(group + head + MARK)
        group = group_id(group, head)
    return markers, group + rest


def put(txn: Any, rows: Any, long: Any, key: bytes, value: bytes) -> None:
    """Write a long key's row and the markers that lead to it."""
    markers, member = split(key)
    txn.put(markers[0], b"", db=rows)
    for marker in markers[1:]:
        txn.put(marker, b"", db=long)
    txn.put(member, value, db=long)


def delete(txn: Any, rows: Any, long: Any, key: bytes) -> None:
    """Remove a long key's row and the markers of groups that this leaves empty."""
    markers, member = split(key)
    if not txn.delete(member, db=long):
        return
    while markers:
        group = member[:ID]
        cursor = txn.cursor(db=long)
        occupied = cursor.set_range(group) and cursor.key().startswith(group)
        cursor.close()
        if occupied:
            return
        member = markers.pop()
        txn.delete(member, db=long if markers else rows)
