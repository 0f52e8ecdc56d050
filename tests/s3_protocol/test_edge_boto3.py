"""The edge with the real SDK: what it sends arrives, what it answers is understood."""

from __future__ import annotations

import asyncio

import pytest
from botocore.exceptions import ClientError

from tests.s3_protocol.edge_support import Running, running

KEYS = [
    "plain",
    "a b+c",
    "ä/ö//ü",
    "../../etc/passwd",
    "./x",
    "/leading",
    "tail/",
    "%41",
    "a?b#c&d=e",
    "\x01\x7f",
    "~*'()!",
    "\U0001f600",
]


async def _call(function: object, /, **arguments: object) -> dict[str, object]:
    assert callable(function)
    return await asyncio.to_thread(function, **arguments)


@pytest.fixture
async def edge() -> object:
    async with running() as one:
        yield one


@pytest.mark.parametrize("key", KEYS)
async def test_round_trip_of_every_kind_of_key(edge: Running, key: str) -> None:
    client = await asyncio.to_thread(edge.client)
    body = key.encode() * 100
    put = await _call(client.put_object, Bucket="bucket", Key=key, Body=body)
    assert put["ChecksumCRC32"]
    assert list(edge.objects.data) == [key]
    got = await _call(client.get_object, Bucket="bucket", Key=key)
    assert await asyncio.to_thread(got["Body"].read) == body  # type: ignore[attr-defined]
    head = await _call(client.head_object, Bucket="bucket", Key=key)
    assert head["ContentLength"] == len(body)
    await _call(client.delete_object, Bucket="bucket", Key=key)
    assert not edge.objects.data


@pytest.mark.parametrize(
    "algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME", "SHA512", "XXHASH64", "XXHASH3", "XXHASH128"]
)
async def test_each_checksum_of_the_sdk_is_verified_and_returned(edge: Running, algorithm: str) -> None:
    client = await asyncio.to_thread(edge.client)
    put = await _call(client.put_object, Bucket="bucket", Key="k", Body=b"x" * 70000, ChecksumAlgorithm=algorithm)
    assert put[f"Checksum{algorithm}"]
    assert put["ChecksumType"] == "FULL_OBJECT"
    assert edge.objects.data["k"] == b"x" * 70000


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        ({"secret": "wrong"}, "SignatureDoesNotMatch", 403),
        ({"access_key": "UNKNOWN"}, "InvalidAccessKeyId", 403),
    ],
)
async def test_wrong_credentials_store_nothing(
    edge: Running, arguments: dict[str, str], code: str, status: int
) -> None:
    client = await asyncio.to_thread(lambda: edge.client(**arguments))
    with pytest.raises(ClientError) as caught:
        await _call(client.put_object, Bucket="bucket", Key="k", Body=b"x")
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert edge.objects.calls == []


async def test_delete_objects_document_arrives(edge: Running) -> None:
    client = await asyncio.to_thread(edge.client)
    objects = [{"Key": f"k<{n}>&", "VersionId": "v"} for n in range(1000)]
    await _call(client.delete_objects, Bucket="bucket", Delete={"Objects": objects, "Quiet": True})
    assert edge.objects.requests[-1].params["Delete"] == {"Objects": objects, "Quiet": True}


async def test_errors_are_understood_by_the_sdk(edge: Running) -> None:
    client = await asyncio.to_thread(edge.client)
    with pytest.raises(client.exceptions.NoSuchKey) as caught:
        await _call(client.get_object, Bucket="bucket", Key="absent")
    assert caught.value.response["Error"]["Key"] == "absent"
    assert caught.value.response["ResponseMetadata"]["RequestId"]
    with pytest.raises(ClientError) as refused:
        await _call(client.put_bucket_website, Bucket="bucket", WebsiteConfiguration={"IndexDocument": {"Suffix": "i"}})
    assert refused.value.response["Error"]["Code"] == "NotImplemented"
    with pytest.raises(ClientError) as missing:
        await _call(client.head_object, Bucket="bucket", Key="absent")
    assert missing.value.response["Error"]["Code"] == "404"


async def test_sdk_finds_the_region_in_the_refusal_of_a_wrong_one(edge: Running) -> None:
    client = await asyncio.to_thread(lambda: edge.client(region="eu-west-9"))
    put = await _call(client.put_object, Bucket="bucket", Key="k", Body=b"x")
    assert put["ETag"]
    assert edge.objects.calls == ["PutObject"]
