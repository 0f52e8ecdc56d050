"""A durable PostgreSQL that tests may crash."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.postgres_server import PostgresServer


@pytest.fixture
def durable_postgres() -> Iterator[PostgresServer]:
    """One of the test's own: what it has acknowledged outlives a crash."""
    server = PostgresServer(durable=True)
    try:
        server.start()
        yield server
    finally:
        server.close()
