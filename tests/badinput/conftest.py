"""One real server for hostile and clumsy clients, with short timeouts; what it logged is judged at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.badinput.wire import USER, Wire
from tests.harness.live_server import LiveServer, live_server

CONFIG = f"""
[log]
access = true

[http]
body_timeout = "2s"
header_timeout = "2s"

[[users]]
name = "stranger"
id = "{USER.canonical_id}"
email = "stranger@example.org"
access_key_id = "{USER.access_key}"
secret_access_key = "{USER.secret}"
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("badinput"), config=CONFIG) as running:
        client = running.client()
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="there", Body=b"hello")
        yield running


@pytest.fixture(scope="session")
def wire(server: LiveServer) -> Wire:
    return Wire(server.port)


@pytest.fixture(scope="session")
def client(server: LiveServer) -> Any:
    """boto3 as the root user, who owns `bucket` with the object `there` (b"hello")."""
    return server.client()
