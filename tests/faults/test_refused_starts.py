"""Catalogs that this program must not touch."""

from __future__ import annotations

from pathlib import Path

import lmdb
import msgspec
import pytest

from catalog.lmdb_engine.environment import FORMAT
from tests.harness.live_server import LiveServer, ServerFailed


def test_a_future_catalog_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    server = LiveServer(tmp_path / "server")
    server.start()
    server.client().create_bucket(Bucket="bucket")
    server.stop()
    folder = server.data / "catalog"
    rewrite_format(folder, FORMAT + 1)
    before = (folder / "data.mdb").read_bytes()
    with pytest.raises(ServerFailed) as raised:
        server.start()
    assert f"format {FORMAT + 1}" in str(raised.value)
    assert "newer" in str(raised.value)
    assert (folder / "data.mdb").read_bytes() == before
    rewrite_format(folder, FORMAT)
    server.start()
    assert server.client().list_buckets()["Buckets"][0]["Name"] == "bucket"
    server.kill()


def rewrite_format(folder: Path, version: int) -> None:
    with lmdb.open(str(folder), max_dbs=8) as environment:
        meta = environment.open_db(b"meta", create=False)
        with environment.begin(write=True) as txn:
            txn.put(b"format", msgspec.msgpack.encode(version), db=meta)
