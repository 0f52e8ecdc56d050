"""`atoll user quota`, the quotas of the configuration, and the default, as an operator sets them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from gateway.admin.client import AdminClient, Refused
from tests.cli.cli_support import answer, wait_for
from tests.harness.live_server import LiveServer, live_server

CONFIG = """
[accounts]
max_buckets = 2

[[users]]
name = "declared"
access_key_id = "DECLAREDKEY000000001"
secret_access_key = "declared/secret/0000000000000000000001"
max_buckets = 1
"""
DECLARED = {
    "aws_access_key_id": "DECLAREDKEY000000001",
    "aws_secret_access_key": "declared/secret/0000000000000000000001",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("quotas"), config=CONFIG, env={"COLUMNS": "200"}) as one:
        yield one


def add(server: LiveServer, name: str) -> Any:
    """A client of a new user, once it is known."""
    user = answer(server, "user", "add", name, "--json")
    client = server.client(
        aws_access_key_id=user["access_key_id"], aws_secret_access_key=user["secret_access_key"]
    )  # fmt: skip
    wait_for(lambda: bool(client.list_buckets()["Owner"]))
    return client


def set_quota(server: LiveServer, name: str, buckets: str) -> str:
    done = server.command("user", "quota", name, "--buckets", buckets)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(server: LiveServer, *arguments: str) -> tuple[int, str]:
    done = server.command("user", "quota", *arguments)
    assert done.stdout == ""
    return done.returncode, done.stderr


def create(client: Any, *names: str) -> str:
    """Make buckets; the code of the first refusal, "" for none."""
    try:
        for name in names:
            client.create_bucket(Bucket=name)
    except ClientError as error:
        code: str = error.response["Error"]["Code"]
        return code
    return ""


def told(server: LiveServer, name: str) -> tuple[int, int | None, bool]:
    (user,) = [one for one in answer(server, "user", "list", "--json") if one["name"] == name]
    return user["buckets"], user["max_buckets"], user["own_quota"]


def line(server: LiveServer, name: str) -> str:
    """A user's line of the table, its cells joined."""
    shown = server.command("user", "list").stdout
    (found,) = [one for one in shown.splitlines() if f" {name} " in one]
    return " ".join(found.replace("│", " ").split())


def test_a_quota_is_set_raised_lowered_and_taken_back(server: LiveServer) -> None:
    client = add(server, "ann")
    assert told(server, "ann") == (0, 2, False)
    assert set_quota(server, "ann", "1") == "buckets that ann may own: 1\n"
    assert create(client, "ann-1", "ann-2") == "TooManyBuckets"
    assert told(server, "ann") == (1, 1, True)
    set_quota(server, "ann", "3")
    assert create(client, "ann-2", "ann-3", "ann-4") == "TooManyBuckets"
    assert "3 of 3 " in line(server, "ann")
    set_quota(server, "ann", "0")
    assert told(server, "ann") == (3, 0, True)
    assert create(client, "ann-1") == ""
    client.delete_bucket(Bucket="ann-3")
    assert create(client, "ann-3") == "TooManyBuckets"
    assert set_quota(server, "ann", "none") == "ann has no quota of its own\n"
    assert told(server, "ann") == (2, 2, False)
    assert create(client, "ann-3") == "TooManyBuckets"
    assert "2 of 2 (default)" in line(server, "ann")


def test_root_is_bound_by_nothing(server: LiveServer) -> None:
    assert create(server.client(), "root-1", "root-2", "root-3", "root-4") == ""
    assert told(server, "root") == (4, None, False)
    assert " of " not in line(server, "root")
    assert refusal(server, "root", "--buckets", "5") == (1, "atoll: the root user may own any number of buckets\n")


def test_a_declared_user_has_the_quota_of_the_configuration(server: LiveServer) -> None:
    assert create(server.client(**DECLARED), "declared-1", "declared-2") == "TooManyBuckets"
    assert told(server, "declared") == (1, 1, True)
    code, text = refusal(server, "declared", "--buckets", "5")
    assert (code, text) == (1, "atoll: the user 'declared' is declared in the configuration; change it there\n")


@pytest.mark.parametrize("text", ["", "-1", "1.5", "many", "None", "٣", "9" * 19, "0x10"])
def test_what_is_no_number_of_buckets_is_refused(server: LiveServer, text: str) -> None:
    code, error = refusal(server, "ann", f"--buckets={text}")
    assert code == 2
    assert "is neither a whole number nor none" in error


def test_wrong_users_and_absurd_numbers_are_refused(server: LiveServer) -> None:
    assert refusal(server, "nobody", "--buckets", "5") == (1, "atoll: there is no user 'nobody'\n")
    code, error = refusal(server, "nobody", "--buckets", "100001")
    assert (code, error) == (1, "atoll: the user's quota is not valid: 0 to 100000 buckets\n")
    code, error = refusal(server, "nobody")
    assert code == 2
    assert "--buckets" in error
    admin = AdminClient(server.data)
    bodies: list[Any] = [{"name": "nobody"}, {"name": "nobody", "max_buckets": "5"}, {"name": 1, "max_buckets": 5}, []]
    for body in bodies:
        with pytest.raises(Refused):
            admin.call("PUT", "/users/quota", body)


def test_a_removed_users_quota_is_not_the_next_ones(server: LiveServer) -> None:
    user = answer(server, "user", "add", "passing", "--json")
    set_quota(server, "passing", "0")
    assert server.command("user", "remove", "passing").returncode == 0
    answer(server, "user", "add", "passing", "--id", user["id"], "--json")
    assert told(server, "passing") == (0, 2, False)


def test_quotas_outlive_a_restart_and_a_restored_catalog(server: LiveServer) -> None:
    client = add(server, "kept")
    set_quota(server, "kept", "1")
    assert create(client, "kept-1") == ""
    backup = server.folder / "backup"
    assert server.command("catalog", "backup", str(backup)).returncode == 0
    set_quota(server, "kept", "5")
    server.stop()
    done = server.command("catalog", "restore", str(backup))
    assert done.returncode == 0, done.stderr
    server.start()
    assert told(server, "kept") == (1, 1, True)
    assert create(client, "kept-2") == "TooManyBuckets"
