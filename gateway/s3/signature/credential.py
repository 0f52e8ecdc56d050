"""The claims of a signature: credential scope, signed headers, signature; from a header or from the query."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.s3.errors import S3Error

ALGORITHM = "AWS4-HMAC-SHA256"
_ASYMMETRIC = "AWS4-ECDSA-P256-SHA256"
#: Makes the error of the form that the claim came in.
_Refuse = Callable[..., S3Error]

_DATE = re.compile(r"\d{8}")
_NAMES = re.compile(r"[!-~]+")
_QUERY_NAMES = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders",
                "X-Amz-Signature")  # fmt: skip

#: Query members that carry a signature, in lower case.
SIGNING_MEMBERS = frozenset(one.lower() for one in (*_QUERY_NAMES, "X-Amz-Security-Token", "X-Amz-Content-Sha256"))

UNSUPPORTED_MECHANISM = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."


@dataclass(frozen=True, slots=True)
class Claim:
    """What a signer says before it is believed."""

    access_key_id: str
    date: str
    scope: str  # date/region/s3/aws4_request
    signed_names: str  # lower-case, `;` between
    names: tuple[str, ...]


class ClaimParser:
    """Parses claims and keeps the latest: a client's requests differ only in the signature."""

    def __init__(self, region: str, capacity: int = 1024) -> None:
        self._region = region
        self._capacity = capacity
        self._known: dict[str, Claim] = {}

    def header(self, value: str) -> tuple[Claim, str]:
        """Claim and signature of an Authorization header. Raises S3Error."""
        head, comma, signature = value.rpartition(",")
        claim = self._known.get(head) if comma else None
        if claim is None:
            return self._parse_header(value, head)
        name, _, signature = signature.strip().partition("=")
        if name != "Signature":
            return self._parse_header(value, "")
        return claim, _check_signature(signature, _malformed)

    def _parse_header(self, value: str, head: str) -> tuple[Claim, str]:
        scheme, _, rest = value.strip().partition(" ")
        if scheme != ALGORITHM:
            raise _other_scheme(scheme, value)
        fields: dict[str, str] = {}
        for piece in rest.split(","):
            name, equals, text = piece.strip().partition("=")
            if not equals or name in fields:
                raise _malformed("the authorization header is not a list of name=value pairs")
            fields[name] = text
        for name in ("Credential", "SignedHeaders", "Signature"):
            if not fields.get(name):
                raise _malformed(f"{name} is missing")
        signature = _check_signature(fields["Signature"], _malformed)
        claim = self._claim(fields["Credential"], fields["SignedHeaders"], _malformed)
        # only where the signature comes last is the text before it the same from request to request
        if head and head.rstrip() + "," in value and value.rpartition(",")[2].strip().startswith("Signature="):
            if len(self._known) >= self._capacity:
                self._known.clear()
            self._known[head] = claim
        return claim, signature

    def query(self, query: Mapping[str, str]) -> tuple[Claim, str]:
        """Claim and signature of a presigned request. Raises S3Error."""
        if query.get("X-Amz-Algorithm") != ALGORITHM:
            if query.get("X-Amz-Algorithm") == _ASYMMETRIC:
                raise S3Error("NotImplemented", "Asymmetric signatures are not implemented.")
            raise _malformed_query('X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"')
        for name in _QUERY_NAMES:
            if not query.get(name):
                raise _malformed_query(
                    "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, "
                    "X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
                )
        claim = self._claim(query["X-Amz-Credential"], query["X-Amz-SignedHeaders"], _malformed_query)
        return claim, _check_signature(query["X-Amz-Signature"], _malformed_query)

    def _claim(self, credential: str, signed: str, refuse: _Refuse) -> Claim:
        # an access key id may contain slashes; the scope is always the last four parts
        parts = credential.rsplit("/", 4)
        if len(parts) != 5 or not parts[0]:
            raise refuse('the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request"')
        access_key_id, date, region, service, terminator = parts
        if not _DATE.fullmatch(date):
            raise refuse(
                f'incorrect date format "{date}". This date in the credential must be in the format "yyyyMMdd"'
            )
        if service != "s3":
            raise refuse(f'incorrect service "{service}". This endpoint belongs to "s3"')
        if terminator != "aws4_request":
            raise refuse(f'incorrect terminal "{terminator}". This endpoint uses "aws4_request"')
        if region != self._region:
            raise refuse(f"the region '{region}' is wrong; expecting '{self._region}'", {"Region": self._region})
        names = tuple(signed.split(";"))
        if not all(_NAMES.fullmatch(one) for one in names):
            raise refuse("SignedHeaders is malformed")
        return Claim(access_key_id, date, f"{date}/{region}/{service}/{terminator}", signed.lower(),
                     tuple(one.lower() for one in names))  # fmt: skip


def _check_signature(signature: str, refuse: _Refuse) -> str:
    if not signature:
        raise refuse("Signature is empty")
    # a wrong length or alphabet is only a signature that can't match
    return signature if signature.isascii() else "-"


def _malformed(reason: str, fields: Mapping[str, str] | None = None) -> S3Error:
    return S3Error("AuthorizationHeaderMalformed", f"The authorization header is malformed; {reason}", fields=fields)


def _malformed_query(reason: str, fields: Mapping[str, str] | None = None) -> S3Error:
    text = (
        reason if reason.startswith(("Query", "X-Amz")) else f"Error parsing the X-Amz-Credential parameter; {reason}"
    )
    return S3Error("AuthorizationQueryParametersError", text, fields=fields)


def _other_scheme(scheme: str, value: str) -> S3Error:
    if scheme == "AWS":
        return S3Error("InvalidRequest", UNSUPPORTED_MECHANISM)
    if scheme == _ASYMMETRIC:
        return S3Error("NotImplemented", "Asymmetric signatures are not implemented.")
    return S3Error(
        "InvalidArgument",
        "Unsupported Authorization Type",
        fields={"ArgumentName": "Authorization", "ArgumentValue": scheme[:64]},
    )
