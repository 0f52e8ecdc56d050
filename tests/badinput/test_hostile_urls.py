"""Presigned URLs that expired, were changed, or are used for something else than they were signed for."""

from __future__ import annotations

import datetime
import json
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import botocore.auth
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.badinput.wire import Heard, Wire
from tests.harness.live_server import REGION, ROOT_KEY_ID, ROOT_SECRET, LiveServer

#: Methods whose presigned URLs S3 knows, with the parameters of their operations.
OPERATIONS = {"GET": "get_object", "HEAD": "head_object", "PUT": "put_object", "DELETE": "delete_object"}


@pytest.fixture(params=["s3v4", "s3"], ids=["v4", "v2"])
def signer(request: pytest.FixtureRequest, server: LiveServer, client: Any) -> Any:
    client.put_object(Bucket="bucket", Key="signed", Body=b"signed for")
    return server.client(config=Config(signature_version=request.param))


def url_for(signer: Any, method: str, key: str = "signed", **extra: Any) -> str:
    params = {"Bucket": "bucket", "Key": key, **extra}
    return str(signer.generate_presigned_url(OPERATIONS[method], params, ExpiresIn=60))


def ask(wire: Wire, method: str, url: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Heard:
    """The URL as it is, signed by nobody else."""
    parts = urlsplit(url)
    return wire.one(method, f"{parts.path}?{parts.query}", body, headers, who=None)


def presigned_at(wire: Wire, moment: datetime.datetime, expires: int) -> str:
    """A version 4 URL for GET of `signed`, as if signed at `moment`."""
    request = AWSRequest(method="GET", url=f"http://{wire.host}:{wire.port}/bucket/signed")
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=moment.replace(tzinfo=None)):
        S3SigV4QueryAuth(Credentials(ROOT_KEY_ID, ROOT_SECRET), "s3", REGION, expires=expires).add_auth(request)
    return str(request.url)


def test_a_url_is_for_its_own_method_only(wire: Wire, client: Any, signer: Any) -> None:
    for method in OPERATIONS:
        url = url_for(signer, method)
        for other in OPERATIONS:
            if other == method:
                continue
            heard = ask(wire, other, url, body=b"replaced" if other == "PUT" else b"")
            assert heard.status == 403, (method, other, heard.data)
        for odd in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
            heard = ask(wire, "GET", url_for(signer, "GET"), {odd: "DELETE"})
            assert (heard.status, heard.body) == (200, b"signed for")
    assert client.get_object(Bucket="bucket", Key="signed")["Body"].read() == b"signed for"
    assert ask(wire, "PUT", url_for(signer, "PUT"), body=b"as signed").status == 200
    assert client.get_object(Bucket="bucket", Key="signed")["Body"].read() == b"as signed"
    assert ask(wire, "DELETE", url_for(signer, "DELETE")).status == 204


@pytest.mark.parametrize(
    "added",
    ["versionId=null", "acl", "tagging", "attributes", "uploads", "partNumber=1", "response-content-type=text/html",
     "x-amz-acl=public-read", "X-Amz-Security-Token=t", "uploadId=u", "versions", "torrent", "restore"],
)  # fmt: skip
def test_nothing_that_matters_can_be_added_to_a_url(wire: Wire, client: Any, signer: Any, added: str) -> None:
    for method in ("GET", "PUT"):
        url = f"{url_for(signer, method)}&{added}"
        heard = ask(wire, method, url, body=b"replaced" if method == "PUT" else b"")
        assert heard.status in (400, 403, 405, 501), (method, heard.data)
    assert client.get_object(Bucket="bucket", Key="signed")["Body"].read() == b"signed for"


@pytest.mark.parametrize(
    "header",
    [
        {"x-amz-copy-source": "/bucket/there"},
        {"x-amz-acl": "public-read"},
        {"x-amz-meta-a": "b"},
        {"x-amz-tagging": "a=b"},
        {"x-amz-security-token": "t"},
        {"x-amz-storage-class": "STANDARD_IA"},
        {"x-amz-object-lock-mode": "COMPLIANCE"},
    ],
)
def test_no_header_of_amazons_can_be_added_to_a_url(
    wire: Wire, client: Any, signer: Any, header: dict[str, str]
) -> None:
    heard = ask(wire, "PUT", url_for(signer, "PUT"), header, b"replaced")
    assert heard.status in (400, 403, 501)
    assert client.get_object(Bucket="bucket", Key="signed")["Body"].read() == b"signed for"


@pytest.mark.parametrize("part", ["/bucket/signed", "Signature=", "Expires=", "AccessKeyId|Credential", "host"])
def test_changed_urls_are_refused(wire: Wire, signer: Any, part: str) -> None:
    url = url_for(signer, "GET")
    assert ask(wire, "GET", url).status == 200
    if part == "/bucket/signed":
        changed = url.replace("/bucket/signed", "/bucket/there")
    elif part == "host":
        parts = urlsplit(url)
        head = f"GET /signed?{parts.query} HTTP/1.1\r\nHost: bucket.localhost:{wire.port}\r\n\r\n"
        assert wire.say(head.encode()).status == (403 if "X-Amz-Signature" in url else 200)
        changed = url.replace("bucket", "Bucket")
    else:
        for name in part.split("|"):
            position = url.find(name)
            if position >= 0:
                break
        start = url.index("=", position) + 1
        changed = url[:start] + ("9" if url[start] != "9" else "8") + url[start + 1 :]
    assert ask(wire, "GET", changed).status in (400, 403, 404)
    assert b"signed for" not in ask(wire, "GET", changed).data


def test_urls_expire_and_are_not_valid_before_their_time(wire: Wire, signer: Any) -> None:
    now = datetime.datetime.now(datetime.UTC)
    minute, day = datetime.timedelta(minutes=1), datetime.timedelta(days=1)
    assert ask(wire, "GET", presigned_at(wire, now, 60)).status == 200
    assert ask(wire, "GET", presigned_at(wire, now - 10 * minute, 601)).status == 200
    assert ask(wire, "GET", presigned_at(wire, now - 6 * day, 7 * 86400)).status == 200
    for moment, expires in [(now - 10 * minute, 599), (now - 2 * day, 86400), (now - 8 * day, 604800), (now, 0)]:
        heard = ask(wire, "GET", presigned_at(wire, moment, expires))
        assert (heard.status, heard.code) == (403, "AccessDenied")
        assert b"Request has expired" in heard.data
    heard = ask(wire, "GET", presigned_at(wire, now + 60 * minute, 60))
    assert (heard.status, heard.code) == (403, "AccessDenied")
    for expires in (604801, -1, 10**18):
        assert ask(wire, "GET", presigned_at(wire, now, expires)).status in (400, 403)


def test_an_expired_url_of_the_old_version(wire: Wire, client: Any, server: LiveServer) -> None:
    client.put_object(Bucket="bucket", Key="signed", Body=b"signed for")
    old = server.client(config=Config(signature_version="s3"))
    expired = old.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "signed"}, ExpiresIn=-5)
    heard = ask(wire, "GET", expired)
    assert (heard.status, heard.code) == (403, "AccessDenied")


def test_two_ways_of_signing_at_once_are_refused(wire: Wire, signer: Any) -> None:
    parts = urlsplit(url_for(signer, "GET"))
    heard = wire.one("GET", f"{parts.path}?{parts.query}")
    assert (heard.status, heard.code) == (400, "InvalidArgument")


def test_the_url_of_a_removed_user_ends_with_the_user(wire: Wire, client: Any, server: LiveServer) -> None:
    made = server.command("user", "add", "leaving", "--json")
    assert made.returncode == 0, made.stderr
    keys = json.loads(made.stdout)
    mine = server.client(aws_access_key_id=keys["access_key_id"], aws_secret_access_key=keys["secret_access_key"])
    deadline = datetime.datetime.now() + datetime.timedelta(seconds=5)
    while True:
        try:
            mine.create_bucket(Bucket="leaving")
            break
        except ClientError:
            assert datetime.datetime.now() < deadline
    mine.put_object(Bucket="leaving", Key="k", Body=b"mine")
    url = mine.generate_presigned_url("get_object", {"Bucket": "leaving", "Key": "k"})
    assert ask(wire, "GET", url).body == b"mine"
    assert server.command("user", "remove", "leaving").returncode == 0
    removed = datetime.datetime.now()
    while ask(wire, "GET", url).status != 403:
        assert datetime.datetime.now() < removed + datetime.timedelta(seconds=1)
    assert client.get_object(Bucket="leaving", Key="k")["Body"].read() == b"mine"
