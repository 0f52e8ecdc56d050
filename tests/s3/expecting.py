"""What S3 tests expect of refusals, and requests that no SDK would send."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.harness.live_server import REGION

MAIN_ID = "1" * 64
ALT_ID = "2" * 64
MAIN_KEY = "MAINUSERKEY000000001"
ALT_KEY = "ALTUSERKEY0000000001"
LIMITED_KEY = "LIMITEDUSERKEY000001"
LIMITED_BUCKETS = 2
SECRET = "a/secret+of/tests/0000000000000000000001"

MIB = 1 << 20
PART = 5 * MIB


@contextlib.contextmanager
def refused(code: str, status: int) -> Iterator[list[dict[str, Any]]]:
    """The block must end with this S3 error; its parsed answer is appended to the list."""
    answers: list[dict[str, Any]] = []
    with pytest.raises(ClientError) as caught:
        yield answers
    answer: dict[str, Any] = caught.value.response
    answers.append(answer)
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def plain_request(
    method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """One HTTP request as it is, without any SDK."""
    request = urllib.request.Request(url, data=body, headers=dict(headers or {}), method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return Answer(response.status, dict(response.headers), response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, dict(error.headers), error.read())


def signed_request(method: str, url: str, *, body: bytes = b"", key: str = MAIN_KEY) -> Answer:
    """A request signed as the SDK would, with a body that the SDK would not send."""
    request = AWSRequest(method=method, url=url, data=body)
    S3SigV4Auth(Credentials(key, SECRET), "s3", REGION).add_auth(request)
    return plain_request(method, url, body=body, headers=dict(request.headers.items()))


def md5_hex(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def sha256_base64(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def keys(listing: Mapping[str, Any], member: str = "Contents") -> list[str]:
    return [row["Key"] for row in listing.get(member, [])]


def prefixes(listing: Mapping[str, Any]) -> list[str]:
    return [row["Prefix"] for row in listing.get("CommonPrefixes", [])]
