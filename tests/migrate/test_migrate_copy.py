"""A bucket copied whole from another server: bytes, ETags, headers, metadata, tags; again, only what changed."""

from __future__ import annotations

import os
from typing import Any

from tests.harness.live_server import LiveServer
from tests.migrate.migrating import begin, keys_of, migrate, report, rest, status

_MIB = 1 << 20
_ODD_KEYS = ["a b+c", "a/../b", "//x", "ü/€/漢", "q?x=1&y#z", "%41", "tab\there", "nl\nx", ".", "..", "a" * 1024]


def _multipart(client: Any, bucket: str, key: str, sizes: list[int]) -> bytes:
    upload = client.create_multipart_upload(Bucket=bucket, Key=key, Metadata={"made": "in parts"})["UploadId"]
    parts, whole = [], b""
    for number, size in enumerate(sizes, 1):
        data = os.urandom(size)
        whole += data
        answer = client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=data)
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
    return whole


def test_all_of_a_bucket_arrives_as_it_was(
    source: LiveServer, target: LiveServer, old: Any, new: Any, old_bucket: str, new_bucket: str
) -> None:
    bodies: dict[str, bytes] = {key: os.urandom(100 + index) for index, key in enumerate(_ODD_KEYS)}
    for key, body in bodies.items():
        old.put_object(Bucket=old_bucket, Key=key, Body=body)
    bodies["empty"] = b""
    old.put_object(Bucket=old_bucket, Key="empty")
    bodies["dressed"] = os.urandom(2 * _MIB)
    old.put_object(
        Bucket=old_bucket,
        Key="dressed",
        Body=bodies["dressed"],
        ContentType="text/plain; charset=utf-8",
        CacheControl="max-age=5",
        ContentDisposition='attachment; filename="x"',
        ContentEncoding="gzip",
        ContentLanguage="de",
        Metadata={"who": "me", "why": "just so"},
        Tagging="a=1&b=two%20words",
        StorageClass="STANDARD_IA",
    )
    bodies["parts"] = _multipart(old, old_bucket, "parts", [5 * _MIB, 6 * _MIB, 100])
    bodies["one part"] = _multipart(old, old_bucket, "one part", [777])
    job = rest(target, begin(target, source.url, old_bucket, new_bucket))
    assert (job["state"], job["reason"]) == ("complete", "")
    assert report(target, job) == {}
    assert job["tallies"]["copied"] == len(bodies)
    assert job["tallies"].get("unverified", 0) == 0
    assert keys_of(new, new_bucket) == keys_of(old, old_bucket)
    for key, body in bodies.items():
        theirs, ours = old.get_object(Bucket=old_bucket, Key=key), new.get_object(Bucket=new_bucket, Key=key)
        assert ours["Body"].read() == body
        theirs["Body"].close()
        for name in ("ETag", "ContentType", "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage",
                     "Metadata", "StorageClass", "TagCount", "ContentLength"):  # fmt: skip
            assert ours.get(name) == theirs.get(name), (key, name)
    assert new.get_object_tagging(Bucket=new_bucket, Key="dressed")["TagSet"] == [
        {"Key": "a", "Value": "1"},
        {"Key": "b", "Value": "two words"},
    ]
    assert new.head_object(Bucket=new_bucket, Key="parts", PartNumber=2)["ContentLength"] == 6 * _MIB
    assert "Uploads" not in new.list_multipart_uploads(Bucket=new_bucket)


def test_another_pass_copies_only_what_is_missing_or_changed(
    source: LiveServer, target: LiveServer, old: Any, new: Any, old_bucket: str, new_bucket: str
) -> None:
    for name in ("same", "changed", "ours", "gone"):
        old.put_object(Bucket=old_bucket, Key=name, Body=b"first " + name.encode())
    job = rest(target, begin(target, source.url, old_bucket, new_bucket))
    assert job["tallies"]["copied"] == 4
    same = new.head_object(Bucket=new_bucket, Key="same")["LastModified"]
    old.put_object(Bucket=old_bucket, Key="changed", Body=b"second")
    old.put_object(Bucket=old_bucket, Key="ours", Body=b"second")
    old.put_object(Bucket=old_bucket, Key="gone", Body=b"second")
    old.put_object(Bucket=old_bucket, Key="added", Body=b"second")
    new.put_object(Bucket=new_bucket, Key="ours", Body=b"written here")
    new.delete_object(Bucket=new_bucket, Key="gone")
    migrate(target, "resume", job["id"], "--json")
    job = rest(target, job)
    assert job["tallies"]["copied"] == 6
    assert keys_of(new, new_bucket) == ["added", "changed", "ours", "same"]
    bodies = {key: new.get_object(Bucket=new_bucket, Key=key)["Body"].read() for key in keys_of(new, new_bucket)}
    assert bodies == {"added": b"second", "changed": b"second", "ours": b"written here", "same": b"first same"}
    assert new.head_object(Bucket=new_bucket, Key="same")["LastModified"] == same
    assert {key: one["kind"] for key, one in report(target, job).items()} == {"ours": "kept"}


def test_a_prefix_and_a_versioned_target(
    source: LiveServer, target: LiveServer, old: Any, new: Any, old_bucket: str, new_bucket: str
) -> None:
    new.put_bucket_versioning(Bucket=new_bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in ("in/a", "in/b", "out/c"):
        old.put_object(Bucket=old_bucket, Key=key, Body=key.encode())
    new.put_object(Bucket=new_bucket, Key="in/b", Body=b"x")
    new.delete_object(Bucket=new_bucket, Key="in/b")  # a delete marker counts as a deletion here
    job = rest(target, begin(target, source.url, old_bucket, new_bucket, "--prefix", "in/"))
    assert job["state"] == "complete"
    assert keys_of(new, new_bucket) == ["in/a"]


def test_finishing_forgets_the_source_and_leaves_the_bucket_to_itself(
    source: LiveServer, target: LiveServer, old: Any, new: Any, old_bucket: str, new_bucket: str
) -> None:
    old.put_object(Bucket=old_bucket, Key="a", Body=b"a")
    job = rest(target, begin(target, source.url, old_bucket, new_bucket, "--read-through"))
    second = target.command("migrate", "start", source.url, old_bucket, new_bucket)
    assert second.returncode == 1
    old.put_object(Bucket=old_bucket, Key="late", Body=b"late")
    assert new.get_object(Bucket=new_bucket, Key="late")["Body"].read() == b"late"
    migrate(target, "finish", job["id"], "--json")
    job = rest(target, job)
    assert (job["state"], job["access_key_id"]) == ("ended", "")
    old.put_object(Bucket=old_bucket, Key="later", Body=b"later")
    assert keys_of(new, new_bucket) == ["a", "late"]
    assert status(target, job)["state"] == "ended"
    migrate(target, "forget", job["id"])
    assert target.command("migrate", "status", job["id"]).returncode == 1
