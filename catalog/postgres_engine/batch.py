"""Transactions that are committed together: in one statement, so in one transaction of the database.

Members keep the order in which they joined; that is their serial order. A member may have read what an earlier member
writes. What it read otherwise is checked by the statement. Members that turn out stale are taken out, with those that
depend on them, and the rest is sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from catalog.feed import UNLISTED
from catalog.postgres_engine.attempt import Attempt, Range, Seen

_encode_keys: Final = msgspec.msgpack.Encoder().encode
#: The keys of one outbox row, as an array of byte strings.
decode_keys: Final = msgspec.msgpack.Decoder(list[bytes]).decode


@dataclass(slots=True)
class Member:
    """One attempt. `version` is given to what it writes. `outcome` becomes True (committed) or False (stale)."""

    attempt: Attempt
    version: int
    outcome: asyncio.Future[bool]
    inner: set[bytes] = field(default_factory=set)  # keys read from earlier members


class Batch:
    """What is gathered for, or under way in, one commit."""

    __slots__ = ("bytes", "checks", "members", "ranges", "writes")

    def __init__(self) -> None:
        self.members: list[Member] = []
        #: What members leave behind, the last one's for each key.
        self.writes: dict[bytes, Seen] = {}
        #: Key → version that it must have in the database.
        self.checks: dict[bytes, int] = {}
        self.ranges: list[Range] = []
        self.bytes = 0

    def admits(self, attempt: Attempt) -> bool:
        """Whether the attempt's reads can hold behind all members."""
        for key, version in attempt.reads.items():
            written = self.writes.get(key)
            if (written.version if written is not None else self.checks.get(key, version)) != version:
                return False
        return not any(self.touches(one.start, one.end) for one in attempt.ranges)

    def touches(self, start: bytes, end: bytes) -> bool:
        """Whether members write in the range."""
        return any(start <= key < end for key in self.writes)

    def add(self, member: Member) -> None:
        """Append a member that is admitted."""
        attempt = member.attempt
        for key, version in attempt.reads.items():
            if key in self.writes:
                member.inner.add(key)
            else:
                self.checks[key] = version
        self.ranges += attempt.ranges
        for key, value in attempt.writes.items():
            self.writes[key] = Seen(value, 0 if value is None else member.version)
            self.bytes += len(key) + (len(value) if value is not None else 0)
        self.members.append(member)

    def expel(self, keys: Iterable[bytes], ranges: Iterable[int]) -> list[Member]:
        """Take out the members whose reads of these keys, or whose ranges by their place in `ranges`, didn't hold, and
        those that read what they write. Returns them."""
        stale_keys, stale_ranges = set(keys), {self.ranges[place] for place in ranges}
        members, expelled = self.members, []
        lost: set[bytes] = set()
        self.members, self.writes, self.checks, self.ranges, self.bytes = [], {}, {}, [], 0
        for member in members:
            attempt = member.attempt
            outer = attempt.reads.keys() - member.inner
            if (
                not stale_keys.isdisjoint(outer)
                or not lost.isdisjoint(attempt.reads)
                or not stale_ranges.isdisjoint(attempt.ranges)
            ):
                lost.update(attempt.writes)
                expelled.append(member)
            else:
                member.inner.clear()
                self.add(member)
        return expelled

    def arguments(self, identity: bytes, *, explain: bool) -> tuple[object, ...]:
        """For `statements.COMMIT`, which tells what didn't hold only with `explain`: else it may fail because a row is
        there that should not be. Keys are sorted, so that two commits don't wait for each other."""
        absent = set() if explain else {key for key, version in self.checks.items() if not version}
        puts: list[tuple[bytes, Seen]] = []
        creates: list[tuple[bytes, Seen]] = []
        for key, seen in sorted(self.writes.items()):
            if seen.value is not None:
                (creates if key in absent else puts).append((key, seen))
        created = {key for key, _ in creates}
        checks = {key: version for key, version in self.checks.items() if key not in created}
        deletes = sorted(key for key, seen in self.writes.items() if seen.value is None)
        listed = [key for key in self.writes if key[0] not in UNLISTED]
        return (
            list(checks),
            list(checks.values()),
            [one.start for one in self.ranges],
            [one.end for one in self.ranges],
            [one.rows for one in self.ranges],
            [key for key, _ in puts],
            [seen.value for _, seen in puts],
            [seen.version for _, seen in puts],
            deletes,
            identity if self.writes else None,
            _encode_keys(listed) if listed else b"",
            [key for key, _ in creates],
            [seen.value for _, seen in creates],
            [seen.version for _, seen in creates],
        )
