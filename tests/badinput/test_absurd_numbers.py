"""Numbers and names in queries and headers that no client means: refused or ignored as S3 does, never our failure."""

from __future__ import annotations

from typing import Any

import pytest

from tests.badinput.wire import Wire

ABSURD = ["-1", "-0", "abc", "1e3", "0x10", "1.5", "%D9%A1", "2147483648", "9" * 30, "1_0", "%00", "NaN", "1%202"]


@pytest.mark.parametrize("number", [*ABSURD, "0", "10001"])
def test_part_numbers(wire: Wire, client: Any, number: str) -> None:
    upload = client.create_multipart_upload(Bucket="bucket", Key="numbered")["UploadId"]
    heard = wire.one("PUT", f"/bucket/numbered?partNumber={number}&uploadId={upload}", b"hello")
    assert (heard.status, heard.code) == (400, "InvalidArgument")
    copied = {"x-amz-copy-source": "/bucket/there"}
    heard = wire.one("PUT", f"/bucket/numbered?partNumber={number}&uploadId={upload}", headers=copied)
    assert (heard.status, heard.code) == (400, "InvalidArgument")
    assert wire.one("GET", f"/bucket/there?partNumber={number}").status == 400
    part = f"<Part><PartNumber>{number}</PartNumber><ETag>e</ETag></Part>"
    body = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>"
    heard = wire.one("POST", f"/bucket/numbered?uploadId={upload}", body.encode())
    assert heard.status == 400
    assert heard.code in ("MalformedXML", "InvalidPart", "InvalidArgument")
    assert "Parts" not in client.list_parts(Bucket="bucket", Key="numbered", UploadId=upload)
    client.abort_multipart_upload(Bucket="bucket", Key="numbered", UploadId=upload)


@pytest.mark.parametrize("number", [one for one in ABSURD if one != "-0"])
@pytest.mark.parametrize("query", ["max-keys=", "list-type=2&max-keys=", "versions&max-keys=", "uploads&max-uploads="])
def test_page_sizes(wire: Wire, query: str, number: str) -> None:
    heard = wire.one("GET", f"/bucket?{query}{number}")
    assert (heard.status, heard.code) == (400, "InvalidArgument")


@pytest.mark.parametrize("query", ["max-keys=", "list-type=2&max-keys=", "versions&max-keys=", "uploads&max-uploads="])
def test_a_large_page_is_a_thousand(wire: Wire, query: str) -> None:
    heard = wire.one("GET", f"/bucket?{query}2147483647")
    assert heard.status == 200
    assert b"<MaxKeys>1000<" in heard.data or b"<MaxUploads>1000<" in heard.data


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("bytes=-1-5", 200),
        ("bytes=5-0", 200),
        ("bytes=--5", 200),
        ("bytes=0x1-0x2", 200),
        ("bytes=" + "0-0," * 3000, 200),
        ("bytes=0-" + "9" * 30, 200),
        ("chunks=0-1", 200),
        ("bytes=99999999999999999-", 416),
        ("bytes=5-", 416),
        ("bytes=-0", 416),
        ("bytes=4-99999999999999999", 206),
        ("bytes=-99999999999999999", 206),
    ],
)
def test_ranges(wire: Wire, value: str, status: int) -> None:
    heard = wire.one("GET", "/bucket/there", headers={"Range": value})
    assert heard.status == status
    assert heard.body == {200: b"hello", 206: b"o" if "4-" in value else b"hello"}.get(status, heard.body)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("x-id=GetObject", 200),
        ("unknown=1&another", 200),
        ("=", 200),
        ("a=b=c", 200),
        ("partNumber=1&partNumber=2", 206),
        ("versionId=", 400),
        ("uploadId", 400),
        ("acl&tagging", 400),
        ("a=%zz", 400),
        ("torrent", 501),
    ],
)
def test_unknown_repeated_and_clashing_queries(wire: Wire, query: str, status: int) -> None:
    heard = wire.say(wire.head("GET", f"/bucket/there?{query}"))
    assert heard.status == status, heard.data
