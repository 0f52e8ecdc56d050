"""A data folder whose catalog is not there: an unmounted disk must not become a new deployment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.live_server import LiveServer, ServerFailed, live_server


def test_an_emptied_catalog_folder_is_refused_and_left_empty(tmp_path: Path) -> None:
    with live_server(tmp_path) as server:
        server.client().create_bucket(Bucket="bucket")
        server.stop()
        catalog, kept = server.data / "catalog", tmp_path / "kept"
        catalog.rename(kept)
        catalog.mkdir()
        again = LiveServer(tmp_path)
        with pytest.raises(ServerFailed, match="holds nodes but"):
            again.start()
        assert list(catalog.iterdir()) == []
        catalog.rmdir()
        kept.rename(catalog)
        server.start()
        assert [one["Name"] for one in server.client().list_buckets()["Buckets"]] == ["bucket"]
