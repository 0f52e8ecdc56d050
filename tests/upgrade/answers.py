"""Everything that a deployment answers of its contents, as plain values that can be kept and compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from tests.harness.live_server import LiveServer
from tests.upgrade.contents import SEGMENT, USERS, client_of

#: Of the object of segments: ends of frames (65,536) and shards (262,144), and what lies across them.
RANGES = ("bytes=0-0", "bytes=65530-65540", "bytes=262000-524300", "bytes=-11001", f"bytes={SEGMENT - 1}-")
_SUBJECTS = ("root", *USERS, "anonymous")


def survey_contents(server: LiveServer) -> dict[str, Any]:
    """Every bucket by name, with its versions and uploads: `contents_of` what `survey` would tell, in less time."""
    return {
        bucket["Name"]: survey_bucket(server, bucket["Name"]) for bucket in server.client().list_buckets()["Buckets"]
    }


def survey_bucket(server: LiveServer, name: str) -> dict[str, Any]:
    """What `survey_contents` tells of one bucket."""
    return _bucket(server.client(), name, _get)


def contents_of(answers: dict[str, Any]) -> dict[str, Any]:
    """The part of a survey that `survey_contents` tells too."""
    return {
        name: {**bucket, "objects": [{"get": one["get"]} for one in bucket["objects"]]}
        for name, bucket in answers["of"].items()
    }


def survey(server: LiveServer) -> dict[str, Any]:
    """Every bucket, version, upload and permission, by name."""
    client = server.client()
    buckets = client.list_buckets()
    return {
        "buckets": _plain(buckets),
        "of": {bucket["Name"]: _bucket(client, bucket["Name"], _object) for bucket in buckets["Buckets"]},
        "seen by": {user: _access(client_of(server, user), buckets["Buckets"]) for user in _SUBJECTS},
        "ranges": {
            range_: _of(client.get_object, Bucket="plain", Key=f"size/{SEGMENT}", Range=range_) for range_ in RANGES
        },
        "parts": {
            str(number): _of(client.get_object, Bucket="plain", Key="multipart", PartNumber=number)
            for number in (1, 2, 3)
        },
    }


def _bucket(client: Any, name: str, look: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    listed = _pages(client, "list_object_versions", 7, Bucket=name)
    uploads = _pages(client, "list_multipart_uploads", 1, Bucket=name)
    return {
        "location": _of(client.get_bucket_location, Bucket=name),
        "versioning": _of(client.get_bucket_versioning, Bucket=name),
        "acl": _of(client.get_bucket_acl, Bucket=name),
        "tags": _of(client.get_bucket_tagging, Bucket=name),
        "folders": _pages(client, "list_objects_v2", 3, Bucket=name, Delimiter="/", FetchOwner=True),
        "listed": listed,
        "uploads": uploads,
        "parts": [
            _of(client.list_parts, Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
            for page in uploads
            for upload in page.get("Uploads", [])
        ],
        "objects": [
            look(client, Bucket=name, Key=version["Key"], VersionId=version["VersionId"])
            for page in listed
            for version in page.get("Versions", [])
        ],
    }


def _get(client: Any, **version: str) -> dict[str, Any]:
    return {"get": _of(client.get_object, **version, ChecksumMode="ENABLED")}


def _object(client: Any, **version: str) -> dict[str, Any]:
    parts = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    return {
        **_get(client, **version),
        "acl": _of(client.get_object_acl, **version),
        "tags": _of(client.get_object_tagging, **version),
        "attributes": _of(client.get_object_attributes, **version, ObjectAttributes=parts),
    }


def _access(client: Any, buckets: list[dict[str, Any]]) -> dict[str, Any]:
    """What one who signs so may do: the status of a listing and of a look at some keys."""
    calls: list[tuple[Callable[..., Any], dict[str, str]]] = [(client.list_buckets, {})]
    calls += [(client.list_objects_v2, {"Bucket": bucket["Name"]}) for bucket in buckets]
    for bucket, key in (
        ("plain", "headers"), ("plain", "size/1"), ("shared", "of root"), ("shared", "of alice"),
        ("shared", "of alice alone"), ("shared", "of nobody"), ("of-alice", "for users"), ("of-alice", "private"),
    ):  # fmt: skip
        calls.append((client.get_object, {"Bucket": bucket, "Key": key}))
        calls.append((client.get_object_acl, {"Bucket": bucket, "Key": key}))
    return {" ".join((call.__name__, *named.values())): _status(call, named) for call, named in calls}


def _status(call: Callable[..., Any], named: dict[str, str]) -> str:
    try:
        call(**named)
    except ClientError as error:
        return f"{error.response['ResponseMetadata']['HTTPStatusCode']} {error.response['Error']['Code']}"
    return "200"


def _pages(client: Any, operation: str, size: int, **named: Any) -> list[Any]:
    pages = client.get_paginator(operation).paginate(**named, PaginationConfig={"PageSize": size})
    return [_plain(page) for page in pages]


def _of(call: Callable[..., Any], **named: Any) -> Any:
    try:
        answer = call(**named)
        if "Body" in answer:
            body = answer["Body"].read()
            answer["Body"] = {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    except ClientError as error:
        answer = {"Error": error.response["Error"]["Code"]}
    return _plain(answer)


def _plain(value: Any) -> Any:
    """An answer without what is of its transport."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if name != "ResponseMetadata"}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def differences(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    """What of `expected` is not so in `found`. A later release may tell more."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name, value in expected.items():
            if name in found:
                yield from differences(value, found[name], f"{where}/{name}")
            else:
                yield f"{where}/{name}: {value!r} is missing"
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from differences(one, other, f"{where}/{number}")
    elif expected != found:
        yield f"{where}: {found!r} instead of {expected!r}"
