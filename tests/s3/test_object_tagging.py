"""Get/Put/DeleteObjectTagging and the x-amz-tagging header."""

from __future__ import annotations

from typing import Any

import pytest

from tests.s3.expecting import refused


def _tags(pairs: dict[str, str]) -> dict[str, Any]:
    return {"TagSet": [{"Key": key, "Value": value} for key, value in pairs.items()]}


@pytest.fixture
def stored(main: Any, bucket: str) -> str:
    main.put_object(Bucket=bucket, Key="key", Body=b"x", Tagging="first=1&with+space=a%2Bb")
    return bucket


def test_tags_of_the_header(main: Any, stored: str) -> None:
    assert (
        main.get_object_tagging(Bucket=stored, Key="key")["TagSet"]
        == _tags({"first": "1", "with space": "a+b"})["TagSet"]
    )
    assert main.head_object(Bucket=stored, Key="key")["TagCount"] == 2


def test_tags_are_replaced_and_removed(main: Any, stored: str) -> None:
    main.put_object_tagging(Bucket=stored, Key="key", Tagging=_tags({"only": "", "über": "日本"}))
    assert main.get_object_tagging(Bucket=stored, Key="key")["TagSet"] == _tags({"only": "", "über": "日本"})["TagSet"]
    answer = main.delete_object_tagging(Bucket=stored, Key="key")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert main.get_object_tagging(Bucket=stored, Key="key")["TagSet"] == []
    assert main.get_object(Bucket=stored, Key="key")["Body"].read() == b"x"


@pytest.mark.parametrize(
    "pairs",
    [
        {str(number): "x" for number in range(11)},
        {"k" * 129: "x"},
        {"k": "v" * 257},
        {"": "x"},
        {"aws:system": "x"},
        {"bad<key>": "x"},
        {"k": "bad;value"},
    ],
)
def test_limits(main: Any, stored: str, pairs: dict[str, str]) -> None:
    with refused("InvalidTag", 400):
        main.put_object_tagging(Bucket=stored, Key="key", Tagging=_tags(pairs))
    assert len(main.get_object_tagging(Bucket=stored, Key="key")["TagSet"]) == 2


def test_largest_tags_are_taken(main: Any, stored: str) -> None:
    pairs = {f"{number}" + "k" * 127: "v" * 256 for number in range(10)}
    main.put_object_tagging(Bucket=stored, Key="key", Tagging=_tags(pairs))
    assert len(main.get_object_tagging(Bucket=stored, Key="key")["TagSet"]) == 10


def test_doubled_tags(main: Any, stored: str) -> None:
    doubled = {"TagSet": [{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}]}
    with refused("InvalidTag", 400):
        main.put_object_tagging(Bucket=stored, Key="key", Tagging=doubled)
    with refused("InvalidTag", 400):
        main.put_object(Bucket=stored, Key="other", Body=b"x", Tagging="k=1&k=2")


def test_tags_belong_to_a_version(main: Any, versioned: str) -> None:
    first = main.put_object(Bucket=versioned, Key="key", Body=b"1")["VersionId"]
    second = main.put_object(Bucket=versioned, Key="key", Body=b"2")["VersionId"]
    answer = main.put_object_tagging(Bucket=versioned, Key="key", VersionId=first, Tagging=_tags({"old": "1"}))
    assert answer["VersionId"] == first
    assert main.get_object_tagging(Bucket=versioned, Key="key", VersionId=first)["TagSet"][0]["Key"] == "old"
    latest = main.get_object_tagging(Bucket=versioned, Key="key")
    assert (latest["TagSet"], latest["VersionId"]) == ([], second)


def test_missing_objects_and_other_users(main: Any, alt: Any, stored: str) -> None:
    main.put_object_acl(Bucket=stored, Key="key", ACL="public-read")
    with refused("NoSuchKey", 404):
        main.get_object_tagging(Bucket=stored, Key="missing")
    with refused("NoSuchKey", 404):
        main.put_object_tagging(Bucket=stored, Key="missing", Tagging=_tags({"a": "b"}))
    with refused("AccessDenied", 403):
        alt.get_object_tagging(Bucket=stored, Key="key")
    with refused("AccessDenied", 403):
        alt.put_object_tagging(Bucket=stored, Key="key", Tagging=_tags({"a": "b"}))
    with refused("AccessDenied", 403):
        alt.delete_object_tagging(Bucket=stored, Key="key")
