"""Authentication: from headers and query to a principal, before any byte of the body is read."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import NoReturn

import msgspec

from core.access import ANONYMOUS, Principal
from core.clock import Clock
from core.http.conditionals import parse_http_date
from gateway.s3.contract import KeyDirectory
from gateway.s3.errors import S3Error
from gateway.s3.signature import query_v2
from gateway.s3.signature.canonical import canonical_path, canonical_query, canonical_request, latin1_reading
from gateway.s3.signature.credential import Claim, ClaimParser
from gateway.s3.signature.keys import SigningKeys, sign, string_to_sign
from gateway.s3.signature.payload import UNSIGNED, PayloadMode, mode_of, payload_mode
from gateway.s3.values import iso8601

#: Seconds that a presigned URL may live.
MAX_EXPIRES = 604_800

_AMZ_DATE = re.compile(r"\d{8}T\d{6}Z")


@dataclass(frozen=True, slots=True)
class ChunkSeed:
    """Where a chain of chunk signatures starts."""

    key: bytes
    timestamp: str
    scope: str
    signature: str


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who asks, and how the body is to be checked."""

    principal: Principal
    payload: PayloadMode
    seed: ChunkSeed | None = None


class SignedParts(msgspec.Struct, frozen=True, gc=False):
    """The request as the signature sees it: the raw target, the decoded query, headers by lower-case name."""

    method: str
    raw_path: str
    raw_query: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    host_bucket: str = ""  # the bucket, where the host names it and the path does not


class Authenticator:
    """Verifies signatures against a key directory. One per process; its caches are bounded."""

    def __init__(self, keys: KeyDirectory, clock: Clock, *, region: str, skew: int) -> None:
        self._keys, self._clock, self._skew = keys, clock, skew
        self._claims = ClaimParser(region)
        self._region = region
        self._signing = SigningKeys()

    def authenticate(self, parts: SignedParts) -> Identity:
        """Who signed; the anonymous principal when nobody did. Raises S3Error."""
        authorization = parts.headers.get("authorization")
        query = parts.query
        if authorization and not query:
            return self._header(parts, authorization)
        presigned = bool(query) and ("X-Amz-Signature" in query or "X-Amz-Algorithm" in query
                                     or "X-Amz-Credential" in query)  # fmt: skip
        old_query = bool(query) and query_v2.claims(query)
        if authorization and (presigned or old_query):
            raise S3Error(
                "InvalidArgument",
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
                "parameter or the Authorization header should be specified",
                fields={"ArgumentName": "Authorization", "ArgumentValue": authorization.partition(" ")[0][:64]},
            )
        if authorization:
            return self._header(parts, authorization)
        if presigned:
            return self._presigned(parts)
        if old_query:
            return self._presigned_v2(parts)
        mode = mode_of(parts.headers.get("x-amz-content-sha256"))
        if mode.chunk_signatures:
            raise S3Error("AccessDenied", "Signed chunks need a signed request.")
        return Identity(ANONYMOUS, mode)

    def _header(self, parts: SignedParts, authorization: str) -> Identity:
        claim, signature = self._claims.header(authorization)
        headers = parts.headers
        if "x-amz-security-token" in headers:
            raise S3Error("InvalidToken")
        sent = headers.get("x-amz-content-sha256")
        if sent is None:
            raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
        mode = payload_mode(sent)
        timestamp = self._request_time(claim, headers)
        principal, secret = self._lookup(claim.access_key_id)
        self._require_signed(claim, headers)
        canonical = canonical_request(
            parts.method,
            canonical_path(parts.raw_path),
            canonical_query(parts.raw_query) if parts.raw_query else "",
            claim.names,
            claim.signed_names,
            headers,
            sent,
        )
        return self._verify(claim, signature, timestamp, canonical, principal, secret, mode)

    def _presigned(self, parts: SignedParts) -> Identity:
        query = parts.query
        claim, signature = self._claims.query(query)
        if "X-Amz-Security-Token" in query or "x-amz-security-token" in parts.headers:
            raise S3Error("InvalidToken")
        timestamp = self._presigned_time(claim, query)
        principal, secret = self._lookup(claim.access_key_id)
        self._require_signed(claim, parts.headers, presigned=True)
        header = parts.headers.get("x-amz-content-sha256")
        named = query.get("X-Amz-Content-Sha256")
        # a header that was added to a presigned URL may frame or narrow the body, but is no part of what was signed
        sent = named or (header if "x-amz-content-sha256" in claim.names else None) or UNSIGNED
        canonical = canonical_request(
            parts.method,
            canonical_path(parts.raw_path),
            canonical_query(parts.raw_query, "X-Amz-Signature"),
            claim.names,
            claim.signed_names,
            parts.headers,
            sent,
        )
        mode = payload_mode(header or sent)
        return self._verify(claim, signature, timestamp, canonical, principal, secret, mode)

    def _presigned_v2(self, parts: SignedParts) -> Identity:
        expires = query_v2.expires_at(parts.query)
        resource = f"/{parts.host_bucket}{parts.raw_path}" if parts.host_bucket else parts.raw_path
        text = query_v2.string_to_sign(parts.method, resource, parts.query, parts.headers)
        principal, secret = self._lookup(parts.query["AWSAccessKeyId"])
        now = self._now()
        if now > expires:
            times = {"Expires": iso8601(expires * 1_000_000), "ServerTime": iso8601(now * 1_000_000)}
            raise S3Error("AccessDenied", "Request has expired", fields=times)
        if not hmac.compare_digest(query_v2.sign(secret, text), parts.query["Signature"]):
            raise S3Error(
                "SignatureDoesNotMatch",
                fields={"AWSAccessKeyId": parts.query["AWSAccessKeyId"], "StringToSign": text},
            )
        mode = payload_mode(parts.headers.get("x-amz-content-sha256", UNSIGNED))
        if mode.chunk_signatures:
            raise S3Error("InvalidRequest", "Signed chunks need a request that is signed with AWS4-HMAC-SHA256.")
        return Identity(principal, mode)

    def _verify(
        self,
        claim: Claim,
        signature: str,
        timestamp: str,
        canonical: str,
        principal: Principal,
        secret: str,
        mode: PayloadMode,
    ) -> Identity:
        key = self._signing.get(secret, claim.date, self._region, "s3")
        text = string_to_sign(timestamp, claim.scope, canonical)
        if not hmac.compare_digest(sign(key, text), signature):
            other = latin1_reading(canonical)
            if other is None or not hmac.compare_digest(
                sign(key, string_to_sign(timestamp, claim.scope, other)), signature
            ):
                _mismatch(claim, text, signature, canonical)
        seed = ChunkSeed(key, timestamp, claim.scope, signature) if mode.chunk_signatures else None
        return Identity(principal, mode, seed)

    def _lookup(self, access_key_id: str) -> tuple[Principal, str]:
        found = self._keys.lookup(access_key_id)
        if found is None:
            raise S3Error("InvalidAccessKeyId", fields={"AWSAccessKeyId": access_key_id})
        return found

    def _now(self) -> int:
        return self._clock.now_us() // 1_000_000

    def _request_time(self, claim: Claim, headers: Mapping[str, str]) -> str:
        """The timestamp that was signed. Raises S3Error AccessDenied, RequestTimeTooSkewed."""
        sent = headers.get("x-amz-date") or headers.get("date") or ""
        timestamp, seconds = _read_time(sent)
        if timestamp is None:
            raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
        now = self._now()
        if abs(now - seconds) > self._skew:
            raise S3Error(
                "RequestTimeTooSkewed",
                fields={
                    "RequestTime": sent,
                    "ServerTime": iso8601(now * 1_000_000),
                    "MaxAllowedSkewMilliseconds": str(self._skew * 1000),
                },
            )
        if timestamp[:8] != claim.date:
            raise S3Error(
                "AuthorizationHeaderMalformed",
                f'The authorization header is malformed; Invalid credential date "{claim.date}". This date is not the '
                f'same as X-Amz-Date: "{timestamp[:8]}".',
            )
        return timestamp

    def _presigned_time(self, claim: Claim, query: Mapping[str, str]) -> str:
        timestamp = query["X-Amz-Date"]
        if not _AMZ_DATE.fullmatch(timestamp):
            raise S3Error(
                "AuthorizationQueryParametersError",
                "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
            )
        readable, seconds = _read_time(timestamp)
        if readable is None or timestamp[:8] != claim.date:
            raise S3Error(
                "AuthorizationQueryParametersError",
                f'Invalid credential date "{claim.date}". This date is not the same as X-Amz-Date: "{timestamp[:8]}".',
            )
        expires = _expires(query["X-Amz-Expires"])
        now = self._now()
        if seconds - now > self._skew:
            raise S3Error("AccessDenied", "Request is not yet valid")
        if now > seconds + expires or expires == 0:
            raise S3Error(
                "AccessDenied",
                "Request has expired",
                fields={
                    "X-Amz-Expires": str(expires),
                    "Expires": iso8601((seconds + expires) * 1_000_000),
                    "ServerTime": iso8601(now * 1_000_000),
                },
            )
        return timestamp

    @staticmethod
    def _require_signed(claim: Claim, headers: Mapping[str, str], *, presigned: bool = False) -> None:
        """`host` and every x-amz-* header must be signed: an unsigned one could be added on the way."""
        names = claim.names
        if "host" not in names:
            raise S3Error("AccessDenied", "There were headers present in the request which were not signed",
                          fields={"HeadersNotSigned": "host"})  # fmt: skip
        for name in headers:
            if name not in names and name.startswith("x-amz-"):
                # in a presigned request this one may say again what the query says
                if presigned and name == "x-amz-content-sha256":
                    continue
                raise S3Error(
                    "AccessDenied",
                    "There were headers present in the request which were not signed",
                    fields={"HeadersNotSigned": name},
                )


def _expires(text: str) -> int:
    # S3 answers these with 403, though its list of codes says 400
    if not text.lstrip("-").isascii() or not text.lstrip("-").isdigit() or len(text) > 20:
        raise S3Error("AuthorizationQueryParametersError", "X-Amz-Expires should be a number")
    expires = int(text)
    if expires < 0:
        raise S3Error("AuthorizationQueryParametersError", "X-Amz-Expires must be non-negative", status=403)
    if expires > MAX_EXPIRES:
        raise S3Error(
            "AuthorizationQueryParametersError",
            f"X-Amz-Expires must be less than a week (in seconds) that is {MAX_EXPIRES}",
            status=403,
        )
    return expires


@lru_cache(1024)
def _read_time(text: str) -> tuple[str | None, int]:
    """(timestamp in basic ISO form, seconds since the epoch); (None, 0) for what is no time."""
    if _AMZ_DATE.fullmatch(text):
        try:
            return text, _seconds(text)
        except ValueError:
            return None, 0
    moment = parse_http_date(text)
    if moment is None:
        return None, 0
    return moment.strftime("%Y%m%dT%H%M%SZ"), int(moment.timestamp())


def _seconds(text: str) -> int:
    moment = datetime(
        int(text[:4]), int(text[4:6]), int(text[6:8]), int(text[9:11]), int(text[11:13]), int(text[13:15]), tzinfo=UTC
    )
    return int(moment.timestamp())


def _mismatch(claim: Claim, text: str, signature: str, canonical: str) -> NoReturn:
    """S3 shows what it computed, so that an author of a client finds the difference; none of it is secret."""
    raise S3Error(
        "SignatureDoesNotMatch",
        fields={
            "AWSAccessKeyId": claim.access_key_id,
            "StringToSign": text,
            "SignatureProvided": signature,
            "StringToSignBytes": text.encode("utf-8", "surrogateescape").hex(" "),
            "CanonicalRequest": canonical,
            "CanonicalRequestBytes": canonical.encode("utf-8", "surrogateescape").hex(" "),
        },
    )
