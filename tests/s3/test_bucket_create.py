"""CreateBucket: names, locations, ACLs, repetition."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from botocore.handlers import validate_bucket_name

from tests.harness.live_server import LiveServer
from tests.s3.expecting import MAIN_KEY, SECRET, plain_request, refused


def _name() -> str:
    return f"made-{secrets.token_hex(6)}"


def test_created_bucket_exists_and_is_the_callers(main: Any) -> None:
    name = _name()
    assert main.create_bucket(Bucket=name)["Location"] == f"/{name}"
    assert name in [one["Name"] for one in main.list_buckets()["Buckets"]]


@pytest.mark.parametrize(
    "name",
    ["ab", "a" * 64, "Upper", "under_score", "dot..dot", "dash-.dot", "dot.-dash", "-start", "end-", "192.168.5.4",
     "xn--bucket", "sthree-x", "name-s3alias", "name--ol-s3"],
)  # fmt: skip
def test_bad_names_are_refused(server: LiveServer, name: str) -> None:
    unchecking = server.client(aws_access_key_id=MAIN_KEY, aws_secret_access_key=SECRET)
    unchecking.meta.events.unregister("before-parameter-build.s3", validate_bucket_name)
    with refused("InvalidBucketName", 400):
        unchecking.create_bucket(Bucket=name)


@pytest.mark.parametrize("name", ["abc", "a.b.c", "1234", "a-b", "a" * 63])
def test_odd_but_good_names_are_taken(main: Any, name: str) -> None:
    unique = (name + secrets.token_hex(6))[-63:] if len(name) < 60 else name[:40] + secrets.token_hex(11) + "z"
    main.create_bucket(Bucket=unique)
    main.head_bucket(Bucket=unique)


def test_own_bucket_again_is_no_error_and_another_users_is(main: Any, alt: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="kept", Body=b"kept")
    main.create_bucket(Bucket=bucket)
    assert main.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"kept"
    with refused("BucketAlreadyExists", 409):
        alt.create_bucket(Bucket=bucket)


def test_own_bucket_again_with_another_acl_is_refused(main: Any, bucket: str) -> None:
    with refused("BucketAlreadyExists", 409):
        main.create_bucket(Bucket=bucket, ACL="public-read")


def test_locations(main: Any) -> None:
    name = _name()
    with refused("IllegalLocationConstraintException", 400):
        main.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    with refused("InvalidLocationConstraint", 400):
        main.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "nowhere"})
    main.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "us-east-1"})
    assert main.get_bucket_location(Bucket=name)["LocationConstraint"] == "us-east-1"


def test_object_lock_is_not_implemented(main: Any) -> None:
    name = _name()
    with refused("NotImplemented", 501):
        main.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    with refused("404", 404):
        main.head_bucket(Bucket=name)


def test_anonymous_caller_creates_nothing(server: LiveServer, main: Any) -> None:
    name = _name()
    answer = plain_request("PUT", f"{server.url}/{name}", body=b"")
    assert answer.status == 403
    with refused("404", 404):
        main.head_bucket(Bucket=name)


def test_bucket_of_a_removed_name_is_another_one(main: Any, new_bucket: Callable[..., str]) -> None:
    name = new_bucket()
    main.put_object(Bucket=name, Key="old", Body=b"old")
    main.delete_object(Bucket=name, Key="old")
    main.delete_bucket(Bucket=name)
    main.create_bucket(Bucket=name)
    with refused("NoSuchKey", 404):
        main.get_object(Bucket=name, Key="old")
