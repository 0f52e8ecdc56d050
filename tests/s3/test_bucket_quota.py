"""A user with a quota of buckets, as clients meet it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.harness.live_server import LiveServer
from tests.s3.expecting import LIMITED_BUCKETS, LIMITED_KEY, MAIN_KEY, SECRET, refused


@pytest.fixture
def limited(server: LiveServer) -> Iterator[Any]:
    """The user who may own `LIMITED_BUCKETS` buckets and owns none."""
    client = server.client(aws_access_key_id=LIMITED_KEY, aws_secret_access_key=SECRET)
    yield client
    for bucket in client.list_buckets()["Buckets"]:
        client.delete_bucket(Bucket=bucket["Name"])


def _name() -> str:
    return f"limited-{secrets.token_hex(6)}"


def _fill(limited: Any) -> list[str]:
    names = [_name() for _ in range(LIMITED_BUCKETS)]
    for name in names:
        limited.create_bucket(Bucket=name)
    return names


def test_one_bucket_more_than_the_quota_is_refused_and_not_made(limited: Any, root: Any) -> None:
    names, refused_name = _fill(limited), _name()
    with refused("TooManyBuckets", 400) as answers:
        limited.create_bucket(Bucket=refused_name)
    assert answers[0]["Error"]["Message"] == "You have attempted to create more buckets than allowed"
    with refused("404", 404):
        root.head_bucket(Bucket=refused_name)
    assert sorted(bucket["Name"] for bucket in limited.list_buckets()["Buckets"]) == sorted(names)


def test_a_deleted_bucket_makes_room(limited: Any) -> None:
    names, another = _fill(limited), _name()
    limited.delete_bucket(Bucket=names[0])
    limited.create_bucket(Bucket=another)
    with refused("TooManyBuckets", 400):
        limited.create_bucket(Bucket=names[0])


def test_existing_names_are_answered_as_without_a_quota(limited: Any, bucket: str) -> None:
    names = _fill(limited)
    assert limited.create_bucket(Bucket=names[0])["Location"] == f"/{names[0]}"
    with refused("BucketAlreadyExists", 409):
        limited.create_bucket(Bucket=names[0], ACL="public-read")
    with refused("BucketAlreadyExists", 409):
        limited.create_bucket(Bucket=bucket)


def test_what_is_wrong_with_a_request_is_said_before_the_quota(limited: Any) -> None:
    _fill(limited)
    with refused("IllegalLocationConstraintException", 400):
        limited.create_bucket(Bucket=_name(), CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    with refused("InvalidBucketName", 400):
        limited.create_bucket(Bucket="xn--limited")


def test_everything_else_goes_on_at_the_quota(limited: Any) -> None:
    names = _fill(limited)
    limited.put_object(Bucket=names[0], Key="key", Body=b"x")
    limited.put_bucket_acl(Bucket=names[0], ACL="public-read")
    assert limited.get_object(Bucket=names[0], Key="key")["Body"].read() == b"x"
    limited.delete_object(Bucket=names[0], Key="key")


def test_others_and_root_are_not_bound_by_it(limited: Any, main: Any, root: Any) -> None:
    _fill(limited)
    for client in (main, root):
        for name in (_name(), _name(), _name()):
            client.create_bucket(Bucket=name)
            client.delete_bucket(Bucket=name)


def test_of_many_requests_at_once_as_many_succeed_as_there_is_room(limited: Any) -> None:
    def create(name: str) -> str:
        try:
            limited.create_bucket(Bucket=name)
        except ClientError as error:
            code: str = error.response["Error"]["Code"]
            return code
        return ""

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(create, [_name() for _ in range(8)]))
    assert sorted(answers) == [""] * LIMITED_BUCKETS + ["TooManyBuckets"] * (8 - LIMITED_BUCKETS)


def test_the_quota_is_the_owners_not_that_of_who_may_write(
    limited: Any, server: LiveServer, new_bucket: Callable[..., str]
) -> None:
    """Objects in other users' buckets need no bucket of one's own."""
    _fill(limited)
    shared = new_bucket(ACL="public-read-write")
    limited.put_object(Bucket=shared, Key="key", Body=b"x")
    owner = server.client(aws_access_key_id=MAIN_KEY, aws_secret_access_key=SECRET)
    owner.delete_object(Bucket=shared, Key="key")
