"""A source that is not ours: SeaweedFS, whose listing has another order than S3's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from bench.servers import PEERS, Seaweed
from tests.harness.live_server import LiveServer
from tests.migrate.migrating import begin, keys_of, report, rest

_MIB = 1 << 20


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    assert (PEERS / "seaweedfs" / "bin" / "weed").exists(), "run `make peers` first"
    server = Seaweed(Path(tmp_path_factory.mktemp("weed")) / "server")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def foreign(weed: Seaweed) -> Any:
    endpoint = weed.endpoint
    return boto3.client(
        "s3",
        endpoint_url=f"http://{endpoint.authority}",
        region_name=endpoint.region,
        aws_access_key_id=endpoint.access_key,
        aws_secret_access_key=endpoint.secret_key,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 3}),
    )


def test_a_foreign_bucket_arrives_whole(
    weed: Seaweed, foreign: Any, target: LiveServer, new: Any, new_bucket: str
) -> None:
    foreign.create_bucket(Bucket="foreign")
    # In S3's order a.txt comes before a/b; listed folder by folder it does not.
    bodies = {key: os.urandom(1000 + len(key)) for key in ("a/b", "a.txt", "a-c", "a/b/c", "ü b", "z")}
    for number in range(1100):
        bodies[f"many/{number:04}"] = b"%d" % number
    for key, body in bodies.items():
        foreign.put_object(Bucket="foreign", Key=key, Body=body, Metadata={"for": "you"}, ContentType="text/x")
    parts = [os.urandom(8 * _MIB), os.urandom(8 * _MIB), os.urandom(100)]
    upload = foreign.create_multipart_upload(Bucket="foreign", Key="parts")["UploadId"]
    named = []
    for number, data in enumerate(parts, 1):
        answer = foreign.upload_part(Bucket="foreign", Key="parts", UploadId=upload, PartNumber=number, Body=data)
        named.append({"PartNumber": number, "ETag": answer["ETag"]})
    foreign.complete_multipart_upload(Bucket="foreign", Key="parts", UploadId=upload, MultipartUpload={"Parts": named})
    bodies["parts"] = b"".join(parts)
    job = begin(target, f"http://{weed.endpoint.authority}", "foreign", new_bucket, "--read-through")
    early = keys_of(new, new_bucket)
    assert early == sorted(early, key=str.encode)
    job = rest(target, job)
    assert (job["state"], job["reason"], report(target, job)) == ("complete", "", {})
    assert keys_of(new, new_bucket) == sorted(bodies, key=str.encode)
    for key in ("a/b", "a.txt", "a-c", "a/b/c", "ü b", "z", "many/0007", "parts"):
        ours, theirs = new.get_object(Bucket=new_bucket, Key=key), foreign.head_object(Bucket="foreign", Key=key)
        assert ours["Body"].read() == bodies[key]
        for name in ("ETag", "Metadata", "ContentType"):
            assert ours[name] == theirs[name], (key, name)
