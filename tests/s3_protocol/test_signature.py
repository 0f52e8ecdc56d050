"""Signature Version 4: Amazon's own vectors, botocore as the other side, and everything that must be refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from core.access import PrincipalKind
from gateway.s3.addressing import parse_query
from gateway.s3.errors import S3Error
from gateway.s3.signature.keys import SigningKeys, derive
from gateway.s3.signature.payload import EMPTY_SHA256, payload_mode
from gateway.s3.signature.verify import Authenticator, SignedParts
from tests.s3_protocol.edge_support import ACCESS_KEY, SECRET, OneKey

DOC_KEY, DOC_SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
DOC_TIME = datetime(2013, 5, 24, 0, 0, 0, tzinfo=UTC)


class Fixed:
    """A clock that stands still."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now_us(self) -> int:
        return int(self.moment.timestamp() * 1_000_000)

    def monotonic(self) -> float:
        return 0.0


def authenticator(moment: datetime, key: str = ACCESS_KEY, secret: str = SECRET) -> Authenticator:
    return Authenticator(OneKey(key, secret), Fixed(moment), region="us-east-1", skew=900)


def parts(method: str, url: str, headers: Mapping[str, str]) -> SignedParts:
    split = urlsplit(url)
    lower = {name.lower(): value for name, value in headers.items()}
    lower.setdefault("host", split.netloc)
    return SignedParts(method, split.path or "/", split.query, parse_query(split.query), lower)


# "Examples: Signature Calculations" of the S3 API reference
_DOC_VECTORS = [
    (
        "GET",
        "/test.txt",
        {"range": "bytes=0-9", "x-amz-content-sha256": EMPTY_SHA256},
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    (
        "PUT",
        "/test%24file.text",
        {
            "date": "Fri, 24 May 2013 00:00:00 GMT",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
            "x-amz-content-sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        },
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    (
        "GET",
        "/?lifecycle",
        {"x-amz-content-sha256": EMPTY_SHA256},
        "host;x-amz-content-sha256;x-amz-date",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    (
        "GET",
        "/?max-keys=2&prefix=J",
        {"x-amz-content-sha256": EMPTY_SHA256},
        "host;x-amz-content-sha256;x-amz-date",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
]


@pytest.mark.parametrize(("method", "target", "headers", "names", "signature"), _DOC_VECTORS)
def test_vectors_of_the_reference(
    method: str, target: str, headers: dict[str, str], names: str, signature: str
) -> None:
    host = "examplebucket.s3.amazonaws.com"
    headers = {
        **headers,
        "x-amz-date": "20130524T000000Z",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={DOC_KEY}/20130524/us-east-1/s3/aws4_request,"
        f"SignedHeaders={names},Signature={signature}",
    }
    verifier = authenticator(DOC_TIME, DOC_KEY, DOC_SECRET)
    for _ in range(2):  # the second time from the caches
        identity = verifier.authenticate(parts(method, f"https://{host}{target}", headers))
        assert identity.principal.access_key_id == DOC_KEY
    tampered = {**headers, "Authorization": headers["Authorization"][:-1] + ("0" if signature[-1] != "0" else "1")}
    assert _refusal(verifier, parts(method, f"https://{host}{target}", tampered)) == ("SignatureDoesNotMatch", 403)


def test_presigned_vector_of_the_reference() -> None:
    url = (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="
        f"{DOC_KEY}%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"
        "&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    verifier = authenticator(DOC_TIME, DOC_KEY, DOC_SECRET)
    assert verifier.authenticate(parts("GET", url, {})).principal.access_key_id == DOC_KEY
    for broken in (url.replace("test.txt", "test2.txt"), url.replace("86400", "86401"), url + "&x=y"):
        assert _refusal(verifier, parts("GET", broken, {})) == ("SignatureDoesNotMatch", 403)
    assert _refusal(verifier, parts("PUT", url, {})) == ("SignatureDoesNotMatch", 403)
    late = authenticator(DOC_TIME.replace(day=25, second=1), DOC_KEY, DOC_SECRET)
    assert _refusal(late, parts("GET", url, {})) == ("AccessDenied", 403)
    early = authenticator(DOC_TIME.replace(day=23), DOC_KEY, DOC_SECRET)
    assert _refusal(early, parts("GET", url, {})) == ("AccessDenied", 403)


def _refusal(verifier: Authenticator, request: SignedParts) -> tuple[str, int]:
    with pytest.raises(S3Error) as refused:
        verifier.authenticate(request)
    assert SECRET not in str(refused.value.fields)
    return refused.value.code, refused.value.status


def _signed(method: str, url: str, headers: dict[str, str], sign: Callable[..., Any] = S3SigV4Auth) -> Any:
    request = AWSRequest(method=method, url=url, headers=headers, data=b"")
    request.context["payload_signing_enabled"] = True
    if sign is S3SigV4Auth:
        sign(Credentials(ACCESS_KEY, SECRET), "s3", "us-east-1").add_auth(request)
    else:
        sign(Credentials(ACCESS_KEY, SECRET), "s3", "us-east-1", expires=600).add_auth(request)
    return request


TOKEN = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
HEADER_TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)


@given(
    key=TOKEN,
    query=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), TOKEN, max_size=4),
    metadata=st.lists(HEADER_TEXT, max_size=3),
)
def test_whatever_botocore_signs_is_verified(key: str, query: dict[str, str], metadata: list[str]) -> None:
    path = quote("/bucket/" + key, safe="/~-._")
    text = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    url = f"http://127.0.0.1:9000{path}" + (f"?{text}" if text else "")
    headers = {f"x-amz-meta-{number}": f"a   b {value}" for number, value in enumerate(metadata)}
    now = datetime.now(UTC)
    for sign in (S3SigV4Auth, S3SigV4QueryAuth):
        request = _signed("GET", url, dict(headers), sign)
        identity = authenticator(now).authenticate(parts("GET", request.url, dict(request.headers)))
        assert identity.principal.kind is PrincipalKind.USER


def test_header_text_sent_as_latin1_is_verified_as_it_was_signed() -> None:
    request = _signed("GET", "http://127.0.0.1/b/k", {"x-amz-meta-a": "Hello é"})
    sent = dict(request.headers)
    sent["x-amz-meta-a"] = "Hello é".encode("latin-1").decode("utf-8", "surrogateescape")
    authenticator(datetime.now(UTC)).authenticate(parts("GET", request.url, sent))
    sent["x-amz-meta-a"] = "Hello è".encode("latin-1").decode("utf-8", "surrogateescape")
    assert _refusal(authenticator(datetime.now(UTC)), parts("GET", request.url, sent))[0] == "SignatureDoesNotMatch"


def _replace(old: str, new: str) -> Callable[[dict[str, str]], None]:
    def change(headers: dict[str, str]) -> None:
        headers["authorization"] = headers["authorization"].replace(old, new)

    return change


def _set(name: str, value: str | None) -> Callable[[dict[str, str]], None]:
    def change(headers: dict[str, str]) -> None:
        if value is None:
            del headers[name]
        else:
            headers[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "code", "status"),
    [
        (_replace("us-east-1", "eu-west-1"), "AuthorizationHeaderMalformed", 400),
        (_replace("/s3/", "/ec2/"), "AuthorizationHeaderMalformed", 400),
        (_replace("aws4_request", "aws5_request"), "AuthorizationHeaderMalformed", 400),
        (_replace(f"Credential={ACCESS_KEY}/", "Credential="), "AuthorizationHeaderMalformed", 400),
        (_replace("Credential=", "Credentials="), "AuthorizationHeaderMalformed", 400),
        (_replace("SignedHeaders=", "SignedHeaders=,"), "AuthorizationHeaderMalformed", 400),
        (_replace("SignedHeaders=host;", "SignedHeaders="), "AccessDenied", 403),
        (_replace("Signature=", "Signature=x"), "SignatureDoesNotMatch", 403),
        (_replace(ACCESS_KEY, "NOBODY"), "InvalidAccessKeyId", 403),
        (_set("authorization", "AWS4-HMAC-SHA256"), "AuthorizationHeaderMalformed", 400),
        (_set("authorization", f"AWS {ACCESS_KEY}:c2ln"), "InvalidRequest", 400),
        (_set("authorization", "Bearer token"), "InvalidArgument", 400),
        (_set("authorization", "AWS4-ECDSA-P256-SHA256 Credential=x"), "NotImplemented", 501),
        (_set("x-amz-date", "20200101T000000Z"), "RequestTimeTooSkewed", 403),
        (_set("x-amz-date", "yesterday"), "AccessDenied", 403),
        (_set("x-amz-date", "20209901T000000Z"), "AccessDenied", 403),
        (_set("x-amz-date", None), "AccessDenied", 403),
        (_set("x-amz-content-sha256", None), "InvalidRequest", 400),
        (_set("x-amz-content-sha256", "abc"), "InvalidArgument", 400),
        (_set("x-amz-content-sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"), "NotImplemented", 501),
        (_set("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), "SignatureDoesNotMatch", 403),
        (_set("x-amz-security-token", "token"), "InvalidToken", 400),
        (_set("x-amz-acl", "public-read"), "AccessDenied", 403),
        (_set("x-amz-meta-a", "changed"), "SignatureDoesNotMatch", 403),
        (_set("host", "elsewhere"), "SignatureDoesNotMatch", 403),
    ],
)
def test_tampered_header_requests(change: Callable[[dict[str, str]], None], code: str, status: int) -> None:
    request = _signed("GET", "http://127.0.0.1/b/k", {"x-amz-meta-a": "1"})
    headers = {name.lower(): value for name, value in request.headers.items()}
    headers["host"] = "127.0.0.1"
    verifier = authenticator(datetime.now(UTC))
    verifier.authenticate(parts("GET", request.url, headers))
    change(headers)
    assert _refusal(verifier, parts("GET", request.url, headers)) == (code, status)


@pytest.mark.parametrize(
    ("old", "new", "code", "status"),
    [
        ("X-Amz-Expires=600", "X-Amz-Expires=604801", "AuthorizationQueryParametersError", 403),
        ("X-Amz-Expires=600", "X-Amz-Expires=-7", "AuthorizationQueryParametersError", 403),
        ("X-Amz-Expires=600", "X-Amz-Expires=soon", "AuthorizationQueryParametersError", 400),
        ("X-Amz-Expires=600", "X-Amz-Expires=0", "AccessDenied", 403),
        ("X-Amz-Expires=600", "X-Amz-Expires=601", "SignatureDoesNotMatch", 403),
        ("X-Amz-Expires=600&", "", "AuthorizationQueryParametersError", 400),
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1", "AuthorizationQueryParametersError", 400),
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", "NotImplemented", 501),
        ("us-east-1", "eu-west-1", "AuthorizationQueryParametersError", 400),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=range", "AccessDenied", 403),
        ("X-Amz-Signature=", "X-Amz-Security-Token=t&X-Amz-Signature=", "InvalidToken", 400),
        ("X-Amz-Signature=", "X-Amz-Signature=0", "SignatureDoesNotMatch", 403),
        ("/b/k", "/b/j", "SignatureDoesNotMatch", 403),
    ],
)
def test_tampered_presigned_requests(old: str, new: str, code: str, status: int) -> None:
    url = _signed("GET", "http://127.0.0.1/b/k", {}, S3SigV4QueryAuth).url
    verifier = authenticator(datetime.now(UTC))
    verifier.authenticate(parts("GET", url, {}))
    assert old in url
    assert _refusal(verifier, parts("GET", url.replace(old, new, 1), {})) == (code, status)


def test_both_ways_of_signing_at_once_are_refused() -> None:
    url = _signed("GET", "http://127.0.0.1/b/k", {}, S3SigV4QueryAuth).url
    verifier = authenticator(datetime.now(UTC))
    assert _refusal(verifier, parts("GET", url, {"authorization": "AWS4-HMAC-SHA256 x"})) == ("InvalidArgument", 400)


def test_nobody_signed() -> None:
    identity = authenticator(datetime.now(UTC)).authenticate(
        parts("GET", "http://127.0.0.1/b/k", {"authorization": ""})
    )
    assert identity.principal.kind is PrincipalKind.ANONYMOUS


def test_signing_keys_follow_the_secret_and_stay_bounded() -> None:
    cache = SigningKeys(capacity=3)
    for number in range(10):
        for secret in ("one", "two"):
            date = f"202401{number:02d}"
            assert cache.get(secret, date, "r", "s3") == derive(secret, date, "r", "s3")
            assert len(cache._keys) <= 3


def test_payload_modes() -> None:
    assert payload_mode(EMPTY_SHA256).sha256 == EMPTY_SHA256
    assert payload_mode("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER").trailer
    assert not payload_mode("UNSIGNED-PAYLOAD").chunked


def test_a_payload_header_added_to_a_presigned_url_is_kept_but_was_not_signed() -> None:
    url = _signed("PUT", "http://127.0.0.1/b/k", {}, S3SigV4QueryAuth).url
    identity = authenticator(datetime.now(UTC)).authenticate(parts("PUT", url, {"x-amz-content-sha256": EMPTY_SHA256}))
    assert identity.payload.sha256 == EMPTY_SHA256
