"""One consistent view of the LMDB file: gets and scans over direct and long keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from catalog.interface import Row
from catalog.keys import prefix_end
from catalog.lmdb_engine.longkeys import DIRECT, MARK, TAIL, group_id, split

#: Under this key of the database `meta` lies the sequence of the newest commit, eight bytes.
SEQUENCE_KEY: Final = b"sequence"

_NO_END: Final = prefix_end(b"")


class Snapshot:
    """A read transaction. `renew` moves it to the newest commit; `close` ends it. Used by one thread at a time."""

    __slots__ = ("_env", "_get", "_long", "_meta", "_rows", "_txn")

    def __init__(self, env: Any, rows: Any, long: Any, meta: Any, *, closed: bool = False) -> None:
        """One that is `closed` shows nothing before it is renewed."""
        self._bind(env, rows, long, meta)
        if not closed:
            self.renew()

    def rebind(self, env: Any, rows: Any, long: Any, meta: Any) -> None:
        """A closed snapshot's new environment."""
        self._bind(env, rows, long, meta)
        self.renew()

    def _bind(self, env: Any, rows: Any, long: Any, meta: Any) -> None:
        self._env = env
        self._rows = rows
        self._long = long
        self._meta = meta
        self._txn: Any = None
        self._get: Any = None

    def renew(self) -> None:
        """Show what is committed by now."""
        if self._txn is not None:
            self.close()
        txn = self._txn = self._env.begin(db=self._rows)
        self._get = txn.get

    def close(self) -> None:
        """End the view, so that its pages can be used again."""
        txn = self._txn
        if txn is not None:
            # Dropping every reference hands the reader slot back for the next begin.
            self._txn = self._get = None
            txn.abort()

    def look(self, keys: Sequence[bytes]) -> tuple[int, list[bytes | None]]:
        """Of the newest commit, its sequence and the values of `keys`; whether it is open or not, it stays as it is."""
        txn = self._env.begin(db=self._rows)
        try:
            get = txn.get
            sequence = int.from_bytes(get(SEQUENCE_KEY, None, self._meta) or b"", "big")
            values = [get(key) if len(key) <= DIRECT else get(split(key)[1], None, self._long) for key in keys]
        finally:
            txn.abort()
        return sequence, values

    def sequence(self) -> int:
        """The sequence of the newest commit that it shows."""
        return int.from_bytes(self._get(SEQUENCE_KEY, None, self._meta) or b"", "big")

    def get(self, key: bytes) -> bytes | None:
        if len(key) <= DIRECT:
            return self._get(key)  # type: ignore[no-any-return]
        return self._get(split(key)[1], None, self._long)  # type: ignore[no-any-return]

    def scan(self, start: bytes, end: bytes, limit: int, reverse: bool, keys_only: bool) -> list[Row]:
        """As `catalog.interface.Reader.scan`."""
        if limit <= 0 or start >= end:
            return []
        return list(islice(self._walk(self._rows, b"", DIRECT, start, end, reverse, not keys_only), limit))

    def _walk(
        self, db: Any, group: bytes, width: int, start: bytes, end: bytes, reverse: bool, values: bool
    ) -> Iterator[Row]:
        """Rows of one group (all of `rows` for the empty group) with start ≤ key < end, without the group's id."""
        cursor = self._txn.cursor(db=db)
        edge = end if reverse else start
        bound = group + (edge if len(edge) <= width else edge[:width] + MARK)
        found = cursor.set_range(bound)
        if reverse:
            # A marker at the bound itself leads to keys below a long `end`.
            inside = found and len(end) > width and cursor.key() == bound
            if not inside and not (cursor.prev() if found else cursor.last()):
                return
        elif not found:
            return
        skip = len(group)
        for item in (cursor.iterprev if reverse else cursor.iternext)(keys=True, values=values):
            key, value = item if values else (item, b"")
            if skip:
                if not key.startswith(group):
                    return
                key = key[skip:]
            if len(key) <= width:
                if not start <= key < end:
                    return
                yield key, value
                continue
            head = key[:-1]
            inner = start.startswith(head)
            if head >= end or (head < start and not inner):
                return
            for rest, value in self._walk(
                self._long,
                group_id(group, head),
                TAIL,
                start[width:] if inner else b"",
                end[width:] if end.startswith(head) else _NO_END,
                reverse,
                values,
            ):
                yield head + rest, value
