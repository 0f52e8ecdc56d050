"""URLs presigned with the old version: botocore signs, and everything beyond plain object requests is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import HmacV1QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from gateway.s3.addressing import parse_query
from gateway.s3.errors import S3Error
from gateway.s3.signature.verify import SignedParts
from tests.s3_protocol.edge_support import ACCESS_KEY, SECRET
from tests.s3_protocol.test_signature import authenticator, parts


def presign(method: str, url: str, *, lifetime: int = 60) -> str:
    request = AWSRequest(method=method, url=url)
    HmacV1QueryAuth(Credentials(ACCESS_KEY, SECRET), expires=lifetime).add_auth(request)
    return str(request.url)


def refusal(method: str, url: str, headers: dict[str, str] | None = None, *, later: int = 0) -> str:
    with pytest.raises(S3Error) as refused:
        authenticator(datetime.now(UTC) + timedelta(seconds=later)).authenticate(parts(method, url, headers or {}))
    return refused.value.code


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "target", ["/b/k", "/b/a%20b%2B%C3%BC/..//c", "/b/k?versionId=abc", "/b/k?response-content-type=text%2Fplain"]
)
def test_what_botocore_signs_is_accepted(method: str, target: str) -> None:
    url = presign(method, f"http://127.0.0.1{target}")
    assert authenticator(datetime.now(UTC)).authenticate(parts(method, url, {})).principal.access_key_id == ACCESS_KEY


def test_any_change_is_refused() -> None:
    url = presign("GET", "http://127.0.0.1/b/k?versionId=abc")
    assert refusal("DELETE", url) == "SignatureDoesNotMatch"
    assert refusal("GET", url.replace("/b/k", "/b/l")) == "SignatureDoesNotMatch"
    assert refusal("GET", url.replace("abc", "abd")) == "SignatureDoesNotMatch"
    assert refusal("GET", url.replace("Expires=", "Expires=1")) == "SignatureDoesNotMatch"
    assert refusal("GET", url, {"x-amz-acl": "public-read"}) == "SignatureDoesNotMatch"


def test_it_expires() -> None:
    assert refusal("GET", presign("GET", "http://127.0.0.1/b/k", lifetime=60), later=120) == "AccessDenied"


def test_members_that_it_would_not_sign_are_refused() -> None:
    for member in ("acl", "tagging", "x-amz-acl=public-read", "uploads", "x-id=GetObject"):
        assert refusal("GET", presign("GET", "http://127.0.0.1/b/k") + f"&{member}") == "InvalidRequest"
    assert refusal("POST", presign("POST", "http://127.0.0.1/b/k")) == "InvalidRequest"


def test_without_its_expiry_it_is_not_taken_for_anonymous() -> None:
    assert refusal("GET", f"http://127.0.0.1/b/k?AWSAccessKeyId={ACCESS_KEY}&Signature=c2ln") == "AccessDenied"


def test_a_bucket_in_the_host_is_part_of_what_is_signed() -> None:
    query = presign("GET", "http://127.0.0.1/b/k").partition("?")[2]
    hosted = SignedParts("GET", "/k", query, parse_query(query), {"host": "b.localhost"}, "b")
    assert authenticator(datetime.now(UTC)).authenticate(hosted).principal.access_key_id == ACCESS_KEY
    other = SignedParts("GET", "/b/k", query, parse_query(query), {"host": "c.localhost"}, "c")
    with pytest.raises(S3Error):
        authenticator(datetime.now(UTC)).authenticate(other)
