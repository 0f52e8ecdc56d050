"""Keys beyond LMDB's 511 bytes, against a sorted dict."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import lmdb
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.lmdb_engine import longkeys
from catalog.lmdb_engine.snapshot import Snapshot

_SHARED = bytes(i * 7 % 256 for i in range(2200))
_EDGES = [1, 2, 493, 494, 495, 509, 510, 511, 512, 1000, 1003, 1004, 1005, 1497, 1498, 1499, 2000, 2198]

stems = st.builds(lambda n: _SHARED[:n], st.sampled_from(_EDGES))
tails = st.one_of(st.just(b""), st.sampled_from([b"\x00", b"\x00\x00", b"\x01", b"\xff"]), st.binary(max_size=3))
long_keys = st.one_of(
    st.builds(lambda stem, tail: (stem + tail)[:2200], stems, tails),
    st.builds(lambda byte, n: bytes((byte,)) * n, st.sampled_from([0, 1, 255]), st.sampled_from(_EDGES)),
)


class Rows:
    """An LMDB environment in a temporary folder, and the dict that it should equal."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="longkeys-"))
        self.env = lmdb.open(str(self.folder), max_dbs=4, map_size=1 << 26, sync=False)
        self.rows = self.env.open_db(b"rows")
        self.long = self.env.open_db(b"long")
        self.model: dict[bytes, bytes] = {}

    def apply(self, changes: list[tuple[bytes, bytes | None]]) -> None:
        with self.env.begin(write=True, db=self.rows) as txn:
            for key, value in changes:
                short = len(key) <= longkeys.DIRECT
                if value is None:
                    self.model.pop(key, None)
                    txn.delete(key) if short else longkeys.delete(txn, self.rows, self.long, key)
                else:
                    self.model[key] = value
                    txn.put(key, value) if short else longkeys.put(txn, self.rows, self.long, key, value)

    def close(self) -> None:
        self.env.close()
        shutil.rmtree(self.folder)


values = st.one_of(st.none(), st.sampled_from([b"", b"1", b"2"]))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(long_keys, values), max_size=25),
    st.lists(st.tuples(long_keys, values), max_size=25),
    st.lists(st.tuples(long_keys, long_keys, st.integers(1, 8)), max_size=12),
)
def test_like_a_sorted_dict(first: Any, second: Any, ranges: Any) -> None:
    store = Rows()
    try:
        store.apply(first)
        store.apply(second)
        snapshot = Snapshot(store.env, store.rows, store.long, None)
        for key in {key for key, _ in first + second}:
            assert snapshot.get(key) == store.model.get(key)
        model = sorted(store.model.items())
        for start, end, limit in [*ranges, (b"\x00", b"\xff" * 2201, 1000)]:
            inside = [row for row in model if start <= row[0] < end]
            assert snapshot.scan(start, end, limit, False, False) == inside[:limit]
            assert snapshot.scan(start, end, limit, True, False) == inside[::-1][:limit]
            assert snapshot.scan(start, end, limit, False, True) == [(key, b"") for key, _ in inside[:limit]]
        snapshot.close()
    finally:
        store.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(long_keys, min_size=1, max_size=30, unique=True), st.randoms())
def test_nothing_is_left_when_all_is_removed(keys: list[bytes], rng: Any) -> None:
    store = Rows()
    try:
        store.apply([(key, b"v") for key in keys])
        rng.shuffle(keys)
        store.apply([(key, None) for key in keys])
        with store.env.begin() as txn:
            assert txn.stat(store.rows)["entries"] == 0
            assert txn.stat(store.long)["entries"] == 0
    finally:
        store.close()


@given(long_keys)
def test_every_part_fits(key: bytes) -> None:
    if len(key) > longkeys.DIRECT:
        markers, member = longkeys.split(key)
        assert all(len(marker) == 511 for marker in markers)
        assert longkeys.ID < len(member) <= 510
