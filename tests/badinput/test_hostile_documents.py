"""XML bodies made to break parsers, on every operation that takes one: refused quickly, and nothing is changed."""

from __future__ import annotations

import gzip
import time
from typing import Any

import pytest

from tests.badinput.wire import USER, Wire
from tests.harness.live_server import LiveServer

TARGETS = {
    "Delete": ("POST", "/bucket?delete", b"<Delete><Object><Key>%s</Key></Object></Delete>"),
    "CreateBucketConfiguration": (
        "PUT",
        "/created",
        b"<CreateBucketConfiguration><LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>",
    ),
    "VersioningConfiguration": (
        "PUT",
        "/bucket?versioning",
        b"<VersioningConfiguration><Status>%s</Status></VersioningConfiguration>",
    ),
    "Tagging": (
        "PUT",
        "/bucket/there?tagging",
        b"<Tagging><TagSet><Tag><Key>%s</Key><Value>v</Value></Tag></TagSet></Tagging>",
    ),
    "AccessControlPolicy": (
        "PUT",
        "/bucket/there?acl",
        b"<AccessControlPolicy><Owner><ID>%s</ID></Owner></AccessControlPolicy>",
    ),
}

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
BOMB = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]>'.encode()
QUADRATIC = b'<!DOCTYPE x [<!ENTITY a "' + b"a" * 100_000 + b'">]>'
OUTSIDE = b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
PARAMETER = b'<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:1/x.dtd"> %p;]>'


def bad_documents(good: bytes) -> dict[str, bytes]:
    """Ways to spoil a document with a place for a value in it."""
    plain = good % b"v"
    return {
        "a bomb of entities": BOMB + good % b"&l9;",
        "a quadratic bomb": QUADRATIC + good % (b"&a;" * 1000),
        "an entity from a file": OUTSIDE + good % b"&f;",
        "an entity from elsewhere": PARAMETER + plain,
        "an unknown entity": good % b"&nothing;",
        "a document type alone": b"<!DOCTYPE x>" + plain,
        "an instruction": b'<?xml-stylesheet href="x"?>' + plain,
        "no end": plain[:-5],
        "two roots": plain + plain,
        "bytes behind the end": plain + b"more",
        "another root": b"<Other>v</Other>",
        "an unknown element": plain.replace(b"</", b"<Odd/></", 1),
        "text between elements": plain.replace(b"><", b">text<", 1),
        "depth": b"<a>" * 200_000,
        "attributes": plain.replace(b">", b" " + b" ".join(b'a%d="x"' % n for n in range(9)) + b' a1="y">', 1),
        "bytes of no encoding": good % b"\xff\xfe",
        "an unknown encoding": b'<?xml version="1.0" encoding="klingon"?>' + plain,
        "a null character": good % b"\x00",
        "an escaped null": good % b"&#0;",
        "JSON": b'{"Delete": {}}',
        "compressed": gzip.compress(plain),
    }


NAMES = list(bad_documents(b"<a>%s</a>"))


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_document_is_malformed_for_every_operation(wire: Wire, client: Any, name: str) -> None:
    for method, target, good in TARGETS.values():
        started = time.monotonic()
        heard = wire.one(method, target, bad_documents(good)[name])
        assert (heard.status, heard.code) == (400, "MalformedXML"), (target, heard.data)
        assert time.monotonic() - started < 2
        assert b"root:" not in heard.data
    upload = client.create_multipart_upload(Bucket="bucket", Key="upload")["UploadId"]
    etag = client.upload_part(Bucket="bucket", Key="upload", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    good = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>%s</ETag></Part></CompleteMultipartUpload>"
    spoilt = bad_documents(good)[name]
    if name != "an unknown element":  # parts may say more than is asked
        heard = wire.one("POST", f"/bucket/upload?uploadId={upload}", spoilt)
        assert (heard.status, heard.code) == (400, "MalformedXML"), heard.data
    assert [part["ETag"] for part in client.list_parts(Bucket="bucket", Key="upload", UploadId=upload)["Parts"]] == [
        etag
    ]
    client.abort_multipart_upload(Bucket="bucket", Key="upload", UploadId=upload)
    assert client.get_object(Bucket="bucket", Key="there")["Body"].read() == b"hello"
    assert client.get_bucket_versioning(Bucket="bucket").get("Status") is None
    assert [row["Name"] for row in client.list_buckets()["Buckets"]] == ["bucket"]


def test_documents_have_a_largest_size_declared_or_not(wire: Wire) -> None:
    large = b"<Delete>" + b"<Object><Key>k</Key></Object>" * 200_000 + b"</Delete>"
    for method, target, good in TARGETS.values():
        body = large if "delete" in target else good % (b"v" * (6 << 20))
        heard = wire.one(method, target, body)
        assert (heard.status, heard.code) == (400, "MaxMessageLengthExceeded")
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        heard = wire.say(wire.head(method, target, late=[("Transfer-Encoding", "chunked")]) + chunked)
        assert (heard.status, heard.code) == (400, "MaxMessageLengthExceeded")


def test_a_list_of_too_many_keys_deletes_none(wire: Wire, client: Any) -> None:
    body = b"<Delete>" + b"<Object><Key>there</Key></Object>" * 1001 + b"</Delete>"
    heard = wire.one("POST", "/bucket?delete", body)
    assert (heard.status, heard.code) == (400, "MalformedXML")
    assert client.get_object(Bucket="bucket", Key="there")["Body"].read() == b"hello"


def test_keys_in_documents_come_back_escaped(wire: Wire) -> None:
    body = b"<Delete><Object><Key>a&amp;b&lt;c&gt;&#10;&quot;</Key></Object></Delete>"
    heard = wire.one("POST", "/bucket?delete", body)
    assert heard.status == 200
    assert b"<Key>a&amp;b&lt;c&gt;&#xA;" in heard.data.replace(b"&#10;", b"&#xA;").replace(b"\n&", b"&#xA;&")


def test_nobody_else_has_a_document_read(wire: Wire, server: LiveServer) -> None:
    for method, target, good in TARGETS.values():
        if target == "/created":
            continue
        for who in (None, USER):
            heard = wire.one(method, target, bad_documents(good)["a bomb of entities"], who=who)
            assert heard.status in (400, 403)
            assert heard.code in ("AccessDenied", "MalformedXML")
    assert server.running()
