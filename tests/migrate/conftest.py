"""Two real servers: `source` is migrated from, `target` into."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.live_server import LiveServer, live_server
from tests.migrate.migrating import bucket_name


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("source")) as running:
        yield running


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("target")) as running:
        yield running


@pytest.fixture(scope="session")
def old(source: LiveServer) -> Any:
    return source.client()


@pytest.fixture(scope="session")
def new(target: LiveServer) -> Any:
    return target.client()


@pytest.fixture
def old_bucket(old: Any) -> str:
    name = bucket_name()
    old.create_bucket(Bucket=name)
    return name


@pytest.fixture
def new_bucket(new: Any) -> str:
    name = bucket_name()
    new.create_bucket(Bucket=name)
    return name
