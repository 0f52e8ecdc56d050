"""Keys are names of objects and nothing else: any byte that S3 allows, and never a path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

from tests.badinput.wire import Wire
from tests.harness.live_server import LiveServer

STEM = "s" * 1000

TRICKS = [
    "../escaped",
    "../../../../escaped",
    "/etc/escaped",
    "//escaped",
    "..",
    ".",
    "./.",
    "a/../../escaped",
    "a/./b",
    "..\\..\\escaped",
    "C:\\escaped",
    "\\\\host\\share",
    "escaped\x00.txt",
    "con",
    "nul.",
    "trailing.",
    "trailing ",
    " leading",
    "~root/escaped",
    "$HOME/escaped",
    "`touch escaped`",
    "$(touch escaped)",
    "; touch escaped",
    "| touch escaped",
    "%2e%2e%2fescaped",
    "..%2fescaped",
    "%00",
    "%252e",
    "file:///escaped",
    "proc/self/environ",
    "node.marker",
    "credentials",
    "\u202eescaped",
    "e\u0301",
    "\u00e9",
    "\ufeffescaped",
    "\U0001f600",
    "\uffff\U0010ffff",
    "<script>",
    "a\r\nSet-Cookie: x",
    "-rf",
    "*",
    "?",
    "#",
    "x/" * 512,
    "/" * 1024,
]


@pytest.fixture(scope="module")
def bucket(client: Any) -> Iterator[str]:
    client.create_bucket(Bucket="keys")
    yield "keys"
    listed = client.list_objects_v2(Bucket="keys", EncodingType="url").get("Contents", [])
    assert listed == []
    client.delete_bucket(Bucket="keys")


def everything(folder: Path) -> set[str]:
    return {os.path.relpath(os.path.join(place, name), folder) for place, _, names in os.walk(folder) for name in names}


@pytest.mark.parametrize("size", [3, 100_000])
def test_no_key_becomes_a_path(client: Any, bucket: str, server: LiveServer, size: int) -> None:
    before = everything(server.folder)
    for key in TRICKS:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode() + bytes(size))
    listed = [row["Key"] for row in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == sorted(TRICKS, key=str.encode)
    for key in TRICKS:
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode() + bytes(size)
    made = everything(server.folder) - before
    # only pieces, named by ourselves
    assert all(name.startswith(("data/nodes/", "data/catalog/")) for name in made), made
    assert not [name for name in made if "escaped" in name or "root" in name]
    for key in TRICKS:
        client.delete_object(Bucket=bucket, Key=key)


def test_every_character_that_utf_8_has_one_by_one(client: Any, bucket: str) -> None:
    """All of ASCII and Latin, and the edges of each length of UTF-8 and of the surrogates' gap."""
    points = [*range(0x180), 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFEFF, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x10FFFF]
    keys = [f"c{chr(point)}c" for point in points]
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in keys:
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    found: list[str] = []
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 37}):
        found += [row["Key"] for row in page["Contents"]]
    assert found == sorted(keys, key=str.encode)
    for key in keys:
        client.delete_object(Bucket=bucket, Key=key)


def test_keys_of_1024_bytes_that_share_a_thousand(client: Any, bucket: str) -> None:
    """They differ in their last byte, in the middle of the rest, or by ending early; with pages, prefix and delimiter
    inside what they share."""
    keys = sorted(
        [STEM, STEM + "/", STEM + "a" * 24, STEM + "a" * 23 + "b", STEM + "a" * 12 + "/" + "b" * 11]
        + [f"{STEM}{number:024d}" for number in range(40)]
        + [STEM + "ü" * 12, STEM + "\U0001f600" * 6],
        key=str.encode,
    )
    assert max(len(key.encode()) for key in keys) == 1024
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=key[-30:].encode())
    found: list[str] = []
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 3}):
        found += [row["Key"] for row in page["Contents"]]
    assert found == keys
    for key in keys:
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == key[-30:].encode()
    listed = client.list_objects_v2(Bucket=bucket, Prefix=STEM + "a", Delimiter="/")
    assert [row["Key"] for row in listed["Contents"]] == [STEM + "a" * 23 + "b", STEM + "a" * 24][::-1]
    assert [row["Prefix"] for row in listed["CommonPrefixes"]] == [STEM + "a" * 12 + "/"]
    client.delete_object(Bucket=bucket, Key=keys[7])
    rest = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert [row["Key"] for row in rest] == keys[:7] + keys[8:]
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})


@pytest.mark.parametrize("key", ["k" * 1025, "ü" * 513, "\U0001f600" * 257, "k" * 5000])
def test_over_long_keys_are_refused_wherever_a_key_may_be(wire: Wire, client: Any, bucket: str, key: str) -> None:
    target = f"/{bucket}/{quote(key)}"
    for method, query in [("PUT", ""), ("GET", ""), ("DELETE", ""), ("POST", "?uploads"), ("PUT", "?tagging")]:
        heard = wire.one(method, target + query, b"x" if method == "PUT" else b"")
        assert (heard.status, heard.code) == (400, "KeyTooLongError"), (method, query)
    heard = wire.one("PUT", f"/{bucket}/copy", headers={"x-amz-copy-source": f"/{bucket}/{quote(key)}"})
    assert heard.status == 400
    body = f"<Delete><Object><Key>{key}</Key></Object></Delete>".encode()
    heard = wire.one("POST", f"/{bucket}?delete", body)
    assert b"KeyTooLong" in heard.data or heard.status == 400
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("path", ["%ff", "%c0%ae%c0%ae/x", "%ed%a0%80", "%f5%80%80%80", "%zz", "a%", "a%2", "%e4"])
def test_keys_that_are_no_utf_8_are_refused(wire: Wire, client: Any, bucket: str, path: str) -> None:
    for method in ("PUT", "GET", "DELETE"):
        heard = wire.one(method, f"/{bucket}/{path}")
        assert (heard.status, heard.code) == (400, "InvalidURI")
    for query in ("prefix", "delimiter", "marker", "start-after"):
        assert wire.one("GET", f"/{bucket}?{query}={path}").status == 400


@pytest.mark.parametrize("name", ["..", ".", "%2e%2e", "%00", "a", "BUCKET", "keys%2fthere", "keys%20", "-", "k" * 64])
def test_bucket_names_that_are_none_reach_nothing(wire: Wire, name: str) -> None:
    for method, target in [
        ("GET", f"/{name}/there"),
        ("PUT", f"/{name}/there"),
        ("GET", f"/{name}"),
        ("PUT", f"/{name}"),
    ]:
        heard = wire.one(method, target)
        assert heard.status in (400, 403, 404), (method, target, heard.data)


def test_a_name_of_another_row_is_no_version_and_no_upload(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    for value in ("../x", "0" * 32, "null\x00", "k" * 5000, "\uffff"):
        with pytest.raises(ClientError) as caught:
            client.get_object(Bucket=bucket, Key="k", VersionId=value)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 404)
        with pytest.raises(ClientError, match="NoSuchUpload"):
            client.list_parts(Bucket=bucket, Key="k", UploadId=value)
        with pytest.raises(ClientError, match="NoSuchUpload"):
            client.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=value)
    client.delete_object(Bucket=bucket, Key="k")
