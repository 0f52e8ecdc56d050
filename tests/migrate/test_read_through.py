"""Applications switched over before the copy ends: what is not here yet is read, listed and deleted as if it were."""

from __future__ import annotations

import os
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.harness.live_server import LiveServer
from tests.migrate.migrating import begin, keys_of, migrate, rest, status, until

_MIB = 1 << 20
_SLOW = ("--read-through", "--bandwidth", "1", "--concurrency", "1")  # the copy itself never gets anywhere


@pytest.fixture
def filled(old: Any, old_bucket: str) -> str:
    for key in ("a", "b/1", "b/2", "c", "d/x/y"):
        old.put_object(Bucket=old_bucket, Key=key, Body=b"old " + key.encode(), Metadata={"key": "value"})
    return old_bucket


@pytest.fixture
def switched(source: LiveServer, target: LiveServer, filled: str, new_bucket: str) -> dict[str, Any]:
    """A job that has listed the source and whose copy stands still."""
    job = begin(target, source.url, filled, new_bucket, *_SLOW)
    while not status(target, job)["listed_once"]:
        time.sleep(0.05)
    return job


def _code(error: pytest.ExceptionInfo[ClientError]) -> str:
    code: str = error.value.response["Error"]["Code"]
    return code


def _read(client: Any, bucket: str, key: str, **options: Any) -> bytes:
    body: bytes = client.get_object(Bucket=bucket, Key=key, **options)["Body"].read()
    return body


def test_a_key_that_is_still_to_come_is_read_as_if_it_were_here(
    new: Any, new_bucket: str, switched: dict[str, Any]
) -> None:
    assert _read(new, new_bucket, "b/1") == b"old b/1"
    head = new.head_object(Bucket=new_bucket, Key="c")
    assert (head["ContentLength"], head["Metadata"]) == (5, {"key": "value"})
    assert _read(new, new_bucket, "c", Range="bytes=2-3") == b"d "
    with pytest.raises(ClientError) as missing:
        new.get_object(Bucket=new_bucket, Key="nowhere")
    assert _code(missing) == "NoSuchKey"


def test_a_head_stores_nothing(new: Any, old: Any, new_bucket: str, filled: str, switched: dict[str, Any]) -> None:
    theirs, ours = (client.head_object(Bucket=name, Key="c") for client, name in ((old, filled), (new, new_bucket)))
    for name in ("ETag", "ContentLength", "Metadata", "LastModified", "ContentType"):
        assert ours[name] == theirs[name]
    old.delete_object(Bucket=filled, Key="c")
    with pytest.raises(ClientError) as gone:
        new.head_object(Bucket=new_bucket, Key="c")
    assert gone.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_a_large_object_is_read_from_the_source_while_it_is_fetched(
    source: LiveServer, target: LiveServer, old: Any, new: Any, old_bucket: str, new_bucket: str
) -> None:
    body = os.urandom(40 * _MIB)
    old.put_object(Bucket=old_bucket, Key="large", Body=body, Metadata={"key": "value"})
    begin(target, source.url, old_bucket, new_bucket, *_SLOW)
    part = new.get_object(Bucket=new_bucket, Key="large", Range="bytes=20000000-20000099")
    assert part["ContentRange"] == f"bytes 20000000-20000099/{len(body)}"
    assert part["Metadata"] == {"key": "value"}
    assert part["Body"].read() == body[20_000_000:20_000_100]
    assert _read(new, new_bucket, "large") == body
    until(lambda: bool(new.list_object_versions(Bucket=new_bucket).get("Versions")))  # what is here, and no more
    old.delete_object(Bucket=old_bucket, Key="large")
    assert _read(new, new_bucket, "large") == body


def test_a_read_stores_what_it_read(new: Any, old: Any, new_bucket: str, filled: str, switched: dict[str, Any]) -> None:
    assert _read(new, new_bucket, "d/x/y") == b"old d/x/y"
    old.delete_object(Bucket=filled, Key="d/x/y")
    assert _read(new, new_bucket, "d/x/y") == b"old d/x/y"


def test_many_readers_of_one_key_fetch_it_once(
    source: LiveServer, new: Any, old: Any, new_bucket: str, filled: str, target: LiveServer
) -> None:
    body = os.urandom(8 * _MIB)
    old.put_object(Bucket=filled, Key="big", Body=body)
    begin(target, source.url, filled, new_bucket, *_SLOW)
    before = _gets(source)
    with ThreadPoolExecutor(8) as pool:
        bodies = list(pool.map(lambda _: _read(new, new_bucket, "big"), range(8)))
    assert all(one == body for one in bodies)
    # The copy that stands still may have asked for one or two keys of its own.
    assert _gets(source) - before <= 3


def _gets(server: LiveServer) -> int:
    with urllib.request.urlopen(f"{server.url}/-/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return int(
        sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("atoll_request_seconds_count") and 'operation="GetObject"' in line
        )
    )


def test_a_listing_shows_what_is_here_and_what_is_to_come_in_order_and_in_pages(
    new: Any, old: Any, new_bucket: str, filled: str, switched: dict[str, Any]
) -> None:
    new.put_object(Bucket=new_bucket, Key="b/1", Body=b"new")
    new.put_object(Bucket=new_bucket, Key="b/1a", Body=b"new")
    new.put_object(Bucket=new_bucket, Key="e/f", Body=b"new")
    _read(new, new_bucket, "c")
    expected = ["a", "b/1", "b/1a", "b/2", "c", "d/x/y", "e/f"]
    assert keys_of(new, new_bucket) == expected
    for size in (1, 2, 3):
        assert keys_of(new, new_bucket, PaginationConfig={"PageSize": size}) == expected
    assert keys_of(new, new_bucket, Prefix="b/") == ["b/1", "b/1a", "b/2"]
    first = new.list_objects_v2(Bucket=new_bucket, Delimiter="/", MaxKeys=3)
    assert [one["Key"] for one in first["Contents"]] == ["a", "c"]
    assert [one["Prefix"] for one in first["CommonPrefixes"]] == ["b/"]
    second = new.list_objects_v2(Bucket=new_bucket, Delimiter="/", ContinuationToken=first["NextContinuationToken"])
    assert [one["Prefix"] for one in second["CommonPrefixes"]] == ["d/", "e/"]
    assert not second["IsTruncated"]
    sizes = {one["Key"]: one["Size"] for one in new.list_objects(Bucket=new_bucket)["Contents"]}
    assert sizes == {"a": 5, "b/1": 3, "b/1a": 3, "b/2": 7, "c": 5, "d/x/y": 9, "e/f": 3}


@pytest.mark.parametrize("versioned", [False, True])
def test_what_is_deleted_here_does_not_come_back(
    source: LiveServer, target: LiveServer, new: Any, filled: str, new_bucket: str, versioned: bool
) -> None:
    if versioned:
        new.put_bucket_versioning(Bucket=new_bucket, VersioningConfiguration={"Status": "Enabled"})
    job = begin(target, source.url, filled, new_bucket, *_SLOW)
    while not status(target, job)["listed_once"]:
        time.sleep(0.05)
    new.delete_object(Bucket=new_bucket, Key="a")  # never was here
    assert _read(new, new_bucket, "c") == b"old c"
    new.delete_object(Bucket=new_bucket, Key="c")  # was brought here
    new.delete_objects(Bucket=new_bucket, Delete={"Objects": [{"Key": "b/1"}, {"Key": "b/2"}]})
    for key in ("a", "b/1", "b/2", "c"):
        with pytest.raises(ClientError) as gone:
            new.get_object(Bucket=new_bucket, Key=key)
        assert _code(gone) == "NoSuchKey"
    assert keys_of(new, new_bucket) == ["d/x/y"]
    migrate(target, "pause", job["id"], "--json")
    migrate(target, "cancel", job["id"], "--json")
    rest(target, job)
    again = rest(target, begin(target, source.url, filled, new_bucket, "--prefix", "d/"))
    assert again["state"] == "complete"
    assert keys_of(new, new_bucket) == ["d/x/y"]


def test_a_deletion_outlives_the_pass_that_follows(
    source: LiveServer, target: LiveServer, new: Any, filled: str, new_bucket: str
) -> None:
    job = rest(target, begin(target, source.url, filled, new_bucket, "--read-through"))
    new.delete_object(Bucket=new_bucket, Key="a")
    migrate(target, "resume", job["id"], "--json")
    assert rest(target, job)["state"] == "complete"
    assert keys_of(new, new_bucket) == ["b/1", "b/2", "c", "d/x/y"]


def test_conditions_see_what_is_to_come(
    new: Any, old: Any, new_bucket: str, filled: str, switched: dict[str, Any]
) -> None:
    with pytest.raises(ClientError) as exists:
        new.put_object(Bucket=new_bucket, Key="a", Body=b"x", IfNoneMatch="*")
    assert _code(exists) == "PreconditionFailed"
    etag = old.head_object(Bucket=filled, Key="c")["ETag"]
    new.put_object(Bucket=new_bucket, Key="c", Body=b"new c", IfMatch=etag)
    assert _read(new, new_bucket, "c") == b"new c"
    new.delete_object(Bucket=new_bucket, Key="b/1", IfMatch=old.head_object(Bucket=filled, Key="b/1")["ETag"])
    assert "b/1" not in keys_of(new, new_bucket)


def test_copies_tags_and_attributes_reach_what_is_to_come(new: Any, new_bucket: str, switched: dict[str, Any]) -> None:
    new.copy_object(Bucket=new_bucket, Key="copy", CopySource={"Bucket": new_bucket, "Key": "b/2"})
    assert _read(new, new_bucket, "copy") == b"old b/2"
    tags = {"TagSet": [{"Key": "k", "Value": "v"}]}
    new.put_object_tagging(Bucket=new_bucket, Key="a", Tagging=tags)
    assert new.get_object_tagging(Bucket=new_bucket, Key="a")["TagSet"] == tags["TagSet"]
    size = new.get_object_attributes(Bucket=new_bucket, Key="d/x/y", ObjectAttributes=["ObjectSize"])["ObjectSize"]
    assert size == len("old d/x/y")


def test_nobody_without_rights_makes_us_fetch(
    target: LiveServer, source: LiveServer, new_bucket: str, switched: dict[str, Any]
) -> None:
    config = Config(signature_version=UNSIGNED, s3={"addressing_style": "path"})
    nobody = boto3.client("s3", endpoint_url=target.url, region_name="us-east-1", config=config)
    before = _gets(source)
    for key in ("a", "b/1", "nowhere"):
        with pytest.raises(ClientError) as refused:
            nobody.get_object(Bucket=new_bucket, Key=key)
        assert _code(refused) == "AccessDenied"
    assert _gets(source) == before


def test_a_bucket_with_keys_to_come_is_not_empty(new: Any, new_bucket: str, switched: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as refused:
        new.delete_bucket(Bucket=new_bucket)
    assert _code(refused) == "BucketNotEmpty"


def test_a_source_that_is_away_is_not_taken_for_a_missing_key(
    tmp_path_factory: pytest.TempPathFactory, target: LiveServer, new: Any, new_bucket: str
) -> None:
    away = LiveServer(tmp_path_factory.mktemp("away")).start()
    try:
        client = away.client()
        client.create_bucket(Bucket="old-bucket")
        client.put_object(Bucket="old-bucket", Key="a", Body=b"a")
        begin(target, away.url, "old-bucket", new_bucket, *_SLOW, "--patience", "2")
    finally:
        away.kill()
    with pytest.raises(ClientError) as refused:
        new.get_object(Bucket=new_bucket, Key="not asked for before")
    assert _code(refused) == "ServiceUnavailable"
