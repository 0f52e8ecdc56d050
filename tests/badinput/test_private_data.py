"""What is private stays so on every road: whoever may not read learns nothing, not even whether there is something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.badinput.wire import USER, Who, Wire
from tests.harness.live_server import LiveServer

SECRET = "the-private-words"


@dataclass(frozen=True)
class Private:
    """A versioned private bucket with one object of two versions and one upload, all saying SECRET somewhere."""

    version: str
    upload: str
    etag: str


@pytest.fixture(scope="module")
def private(client: Any, server: LiveServer) -> Private:
    client.create_bucket(Bucket="private")
    enabled = {"Status": "Enabled"}
    client.put_bucket_versioning(Bucket="private", VersioningConfiguration=enabled)
    client.put_bucket_tagging(Bucket="private", Tagging={"TagSet": [{"Key": "tag", "Value": SECRET}]})
    first = client.put_object(
        Bucket="private",
        Key="k",
        Body=SECRET.encode(),
        Metadata={"words": SECRET},
        Tagging=f"words={SECRET}",
        ContentDisposition=SECRET,
    )
    client.put_object(Bucket="private", Key="k", Body=b"second " + SECRET.encode(), Metadata={"words": SECRET})
    client.put_object(Bucket="private", Key=SECRET, Body=b"the key says it")
    upload = client.create_multipart_upload(Bucket="private", Key="up", Metadata={"words": SECRET})["UploadId"]
    client.upload_part(Bucket="private", Key="up", UploadId=upload, PartNumber=1, Body=SECRET.encode())
    stranger = server.client(aws_access_key_id=USER.access_key, aws_secret_access_key=USER.secret)
    stranger.create_bucket(Bucket="strangers")
    return Private(first["VersionId"], upload, first["ETag"])


def reads(private: Private) -> list[tuple[str, str]]:
    version = f"versionId={private.version}"
    queries = ["", f"?{version}", "?versionId=null", "?partNumber=1", "?response-content-type=text/html"]
    roads = [(method, f"/private/k{query}") for query in queries for method in ("GET", "HEAD")]
    queries = [query for one in ("acl", "tagging", "attributes") for query in (f"?{one}", f"?{one}&{version}")]
    roads += [("GET", f"/private/k{query}") for query in queries]
    bucket = ["", "?list-type=2", "?list-type=2&fetch-owner=true", "?versions", "?uploads", "?acl", "?location",
              "?versioning", "?tagging", "?policy", "?policyStatus", "?cors", "?lifecycle", "?website", "?encryption",
              "?logging", "?notification", "?replication", "?requestPayment", "?accelerate", "?object-lock",
              "?ownershipControls", "?publicAccessBlock", f"?prefix={SECRET[:5]}", "?delimiter=-"]  # fmt: skip
    roads += [("GET", f"/private{query}") for query in bucket] + [("HEAD", "/private")]
    return [
        *roads,
        ("GET", f"/private/up?uploadId={private.upload}"),
        ("GET", "/private/absent"),
        ("HEAD", "/private/absent"),
    ]


def writes(private: Private) -> list[tuple[str, str, bytes, dict[str, str]]]:
    complete = (
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>"
    )
    tags = b"<Tagging><TagSet/></Tagging>"
    suspend = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
    public = {"x-amz-acl": "public-read"}
    return [
        ("PUT", "/private/new", b"x", {}),
        ("PUT", "/private/k", b"x", {"If-Match": private.etag}),
        ("PUT", "/private/k?acl", b"", public),
        ("PUT", f"/private/k?acl&versionId={private.version}", b"", public),
        ("PUT", "/private/k?tagging", tags, {}),
        ("DELETE", "/private/k?tagging", b"", {}),
        ("DELETE", "/private/k", b"", {}),
        ("DELETE", f"/private/k?versionId={private.version}", b"", {}),
        ("POST", "/private/k?uploads", b"", {}),
        ("PUT", f"/private/up?partNumber=2&uploadId={private.upload}", b"x", {}),
        ("POST", f"/private/up?uploadId={private.upload}", complete, {}),
        ("DELETE", f"/private/up?uploadId={private.upload}", b"", {}),
        ("PUT", "/private?acl", b"", public),
        ("PUT", "/private?versioning", suspend, {}),
        ("PUT", "/private?tagging", tags, {}),
        ("DELETE", "/private?tagging", b"", {}),
        ("DELETE", "/private", b"", {}),
        ("PUT", "/private", b"", public),
    ]


@pytest.mark.parametrize("who", [None, USER], ids=["nobody", "stranger"])
def test_every_road_to_read_is_closed_and_tells_nothing(wire: Wire, private: Private, who: Who | None) -> None:
    for method, target in reads(private):
        headers = {"x-amz-object-attributes": "ETag,Checksum,ObjectParts,ObjectSize"} if "attributes" in target else {}
        heard = wire.one(method, target, headers=headers, who=who)
        allowed = (403, 400) if "response-" in target else (403,)
        assert heard.status in allowed, (method, target, heard.data)
        assert SECRET.encode() not in heard.data.replace(target.encode(), b"")
        assert private.etag.strip('"').encode() not in heard.data
        assert private.version.encode() not in heard.data.replace(target.encode(), b"")


@pytest.mark.parametrize("who", [None, USER], ids=["nobody", "stranger"])
def test_a_private_key_and_an_absent_one_look_alike(wire: Wire, private: Private, who: Who | None) -> None:
    def seen(target: str, method: str) -> list[bytes]:
        path = target.partition("?")[0].encode()
        data = wire.one(method, target, who=who).data.replace(path, b"PATH")
        varying = (b"x-amz-request-id", b"x-amz-id-2", b"Date:", b"<RequestId>")
        head, _, body = data.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.startswith((*varying, b"Content-Length"))]
        return [*lines, body.partition(b"<RequestId>")[0]]

    for query in ("", "?acl", "?tagging", "?attributes", "?partNumber=1"):
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            assert seen(f"/private/k{query}", method) == seen(f"/private/n{query}", method)


@pytest.mark.parametrize("who", [None, USER], ids=["nobody", "stranger"])
def test_every_road_to_write_is_closed_and_changes_nothing(
    wire: Wire, client: Any, private: Private, who: Who | None
) -> None:
    before = client.list_object_versions(Bucket="private")
    for method, target, body, headers in writes(private):
        heard = wire.one(method, target, body, headers, who=who)
        assert heard.status in (403, 409), (method, target, heard.data)
    heard = wire.one("POST", "/private?delete", b"<Delete><Object><Key>k</Key></Object></Delete>", who=who)
    assert b"<Deleted>" not in heard.data
    assert heard.code == "AccessDenied"
    after = client.list_object_versions(Bucket="private")
    for member in ("Versions", "DeleteMarkers"):
        assert after.get(member) == before.get(member)
    assert client.get_bucket_versioning(Bucket="private")["Status"] == "Enabled"
    assert client.get_bucket_tagging(Bucket="private")["TagSet"] == [{"Key": "tag", "Value": SECRET}]
    assert client.get_object_tagging(Bucket="private", Key="k", VersionId=private.version)["TagSet"] != []
    assert len(client.list_parts(Bucket="private", Key="up", UploadId=private.upload)["Parts"]) == 1
    grants = client.get_object_acl(Bucket="private", Key="k")["Grants"]
    assert [grant["Permission"] for grant in grants] == ["FULL_CONTROL"]


@pytest.mark.parametrize(
    "source",
    [
        "private/k",
        "/private/k",
        "private/k?versionId={version}",
        "private/absent",
        "%70rivate/k",
        "strangers/../private/k",
    ],
)
def test_a_copy_is_a_read(wire: Wire, server: LiveServer, private: Private, source: str) -> None:
    stranger = server.client(aws_access_key_id=USER.access_key, aws_secret_access_key=USER.secret)
    headers = {"x-amz-copy-source": source.format(version=private.version)}
    heard = wire.one("PUT", "/strangers/copy", headers=headers, who=USER)
    assert heard.status in (403, 404)
    upload = stranger.create_multipart_upload(Bucket="strangers", Key="copy")["UploadId"]
    heard = wire.one("PUT", f"/strangers/copy?partNumber=1&uploadId={upload}", headers=headers, who=USER)
    assert heard.status in (403, 404)
    assert "Contents" not in stranger.list_objects_v2(Bucket="strangers")
    assert "Parts" not in stranger.list_parts(Bucket="strangers", Key="copy", UploadId=upload)
    stranger.abort_multipart_upload(Bucket="strangers", Key="copy", UploadId=upload)


def test_the_public_sees_one_version_of_one_object_and_no_more(wire: Wire, client: Any, private: Private) -> None:
    """`public-read` on an object is for that version's bytes: not for its ACL, the list or other versions."""
    client.put_object(Bucket="private", Key="open", Body=b"closed " + SECRET.encode())
    closed = client.head_object(Bucket="private", Key="open")["VersionId"]
    client.put_object(Bucket="private", Key="open", Body=b"for all", ACL="public-read")
    assert wire.one("GET", "/private/open", who=None).body == b"for all"
    assert wire.one("HEAD", "/private/open", who=None).status == 200
    for target in (f"/private/open?versionId={closed}", "/private/open?acl", "/private", "/private?versions"):
        assert wire.one("GET", target, who=None).status == 403
    client.put_object(Bucket="private", Key="open", Body=b"closed again " + SECRET.encode())
    assert wire.one("GET", "/private/open", who=None).status == 403


def test_the_services_own_pages_tell_no_names(wire: Wire, private: Private) -> None:
    for page in ("/-/metrics", "/-/health/live", "/-/health/ready", "/-/", "/-/status", "/-/users"):
        heard = wire.one("GET", page, who=None)
        assert SECRET.encode() not in heard.data
        assert b"private" not in heard.data.lower()
        assert USER.access_key.encode() not in heard.data


def test_owning_one_bucket_gives_nothing_in_another(server: LiveServer, private: Private) -> None:
    stranger = server.client(aws_access_key_id=USER.access_key, aws_secret_access_key=USER.secret)
    assert [row["Name"] for row in stranger.list_buckets()["Buckets"]] == ["strangers"]
    with pytest.raises(ClientError, match="BucketAlreadyExists"):
        stranger.create_bucket(Bucket="private")
    with pytest.raises(ClientError, match="NoSuchUpload"):
        stranger.list_parts(Bucket="strangers", Key="up", UploadId=private.upload)
    with pytest.raises(ClientError, match="NoSuchVersion"):
        stranger.get_object(Bucket="strangers", Key="k", VersionId=private.version)
