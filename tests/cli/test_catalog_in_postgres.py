"""A server whose catalog is a database: made, found again, out of reach, and of another deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.cli.cli_support import status, wait_for
from tests.harness.live_server import LiveServer, ServerFailed, live_server
from tests.harness.postgres_server import PostgresServer

PASSWORD = "secret-of-the-tests"


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """One that these tests stop and start."""
    server = PostgresServer(durable=True)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def url(own_postgres: PostgresServer) -> str:
    return own_postgres.url(asyncio.run(own_postgres.new_database()))


def test_objects_outlive_the_process_and_the_password_stays_secret(tmp_path: Path, url: str) -> None:
    with live_server(tmp_path, env={"ATOLL_CATALOG": url, "ATOLL_LOG_LEVEL": "debug"}) as server:
        client = server.client()
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="small", Body=b"x" * 100)
        client.put_object(Bucket="bucket", Key="large", Body=b"y" * (3 << 20))
        assert not (server.data / "catalog").exists()
        deployment = status(server)["deployment"]
        printed = "".join(server.output)
        server.kill()
        server.start()
        client = server.client()
        assert client.get_object(Bucket="bucket", Key="small")["Body"].read() == b"x" * 100
        assert client.get_object(Bucket="bucket", Key="large")["Body"].read() == b"y" * (3 << 20)
        assert [one["Key"] for one in client.list_objects_v2(Bucket="bucket")["Contents"]] == ["large", "small"]
        assert status(server)["deployment"] == deployment
        assert server.stop() == 0
        assert "catalog" in printed
        assert PASSWORD not in printed + "".join(server.output)


def test_a_database_out_of_reach_is_503_and_comes_back(tmp_path: Path, url: str, own_postgres: PostgresServer) -> None:
    config = f'[catalog]\nurl = "{url}"\n'
    with live_server(tmp_path, config=config) as server:
        client = server.client()
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="key", Body=b"1")
        own_postgres.stop(crash=True)
        try:
            with pytest.raises(ClientError) as caught:
                client.put_object(Bucket="bucket", Key="key", Body=b"2")
        finally:
            own_postgres.start()
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        wait_for(lambda: client.put_object(Bucket="bucket", Key="key", Body=b"3") is not None, 20)
        assert client.get_object(Bucket="bucket", Key="key")["Body"].read() == b"3"


def test_a_catalog_of_another_deployment_is_refused(tmp_path: Path, url: str, own_postgres: PostgresServer) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, address in ((one, url), (other, own_postgres.url(asyncio.run(own_postgres.new_database())))):
        with live_server(folder, env={"ATOLL_CATALOG": address}) as server:
            assert server.stop() == 0
    server = LiveServer(one, env={"ATOLL_CATALOG": own_postgres.url("t" + str(own_postgres.databases))})
    with pytest.raises(ServerFailed, match="belongs to") as caught:
        server.start()
    assert "exit 3" in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_a_database_that_is_not_there_is_named_without_its_password(tmp_path: Path, url: str) -> None:
    server = LiveServer(tmp_path, env={"ATOLL_CATALOG": url + "-absent"})
    with pytest.raises(ServerFailed, match="exit 3") as caught:
        server.start()
    assert "-absent" in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_serving_without_init_makes_no_catalog(tmp_path: Path, url: str) -> None:
    server = LiveServer(tmp_path, env={"ATOLL_CATALOG": url})
    server.data.mkdir()
    done = server.command("serve", timeout=20)
    assert done.returncode == 3
    assert "holds no catalog" in done.stdout + done.stderr


def test_a_restore_into_a_database_is_refused(tmp_path: Path, url: str) -> None:
    server = LiveServer(tmp_path, env={"ATOLL_CATALOG": url})
    (tmp_path / "backup").write_bytes(b"")
    done = server.command("catalog", "restore", str(tmp_path / "backup"))
    assert done.returncode == 3
    assert "name a database" in done.stdout + done.stderr
