"""A server killed in the middle of a migration goes on where it was: nothing twice, nothing missing, no parts left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.harness.live_server import LiveServer, live_server
from tests.migrate.migrating import begin, keys_of, report, rest, status, until

_MIB = 1 << 20


def test_kill_in_the_middle_and_resume(source: LiveServer, old: Any, old_bucket: str, tmp_path: Path) -> None:
    bodies = {f"small/{number:03}": os.urandom(20_000) for number in range(150)}
    for key, body in bodies.items():
        old.put_object(Bucket=old_bucket, Key=key, Body=body)
    upload = old.create_multipart_upload(Bucket=old_bucket, Key="large")["UploadId"]
    parts = []
    bodies["large"] = b""
    for number in (1, 2, 3):
        data = os.urandom(5 * _MIB)
        bodies["large"] += data
        answer = old.upload_part(Bucket=old_bucket, Key="large", UploadId=upload, PartNumber=number, Body=data)
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    old.complete_multipart_upload(Bucket=old_bucket, Key="large", UploadId=upload, MultipartUpload={"Parts": parts})
    with live_server(tmp_path / "target") as target:
        new = target.client()
        new.create_bucket(Bucket="new-bucket")
        job = begin(target, source.url, old_bucket, "new-bucket", "--bandwidth", "8MiB", "--concurrency", "4")
        until(lambda: "Uploads" in new.list_multipart_uploads(Bucket="new-bucket"))  # the large one is under way
        target.kill()
        target.start()
        new = target.client()
        until(lambda: status(target, job)["tallies"].get("copied", 0) > 30)
        target.kill()
        target.start()
        job = rest(target, job)
        new = target.client()
        assert (job["state"], job["reason"]) == ("complete", "")
        assert report(target, job) == {}
        assert keys_of(new, "new-bucket") == sorted(bodies)
        assert {key: new.get_object(Bucket="new-bucket", Key=key)["Body"].read() for key in bodies} == bodies
        assert "Uploads" not in new.list_multipart_uploads(Bucket="new-bucket")
        versions = new.list_object_versions(Bucket="new-bucket")["Versions"]
        assert len(versions) == len(bodies)


def test_what_was_deleted_stays_deleted_over_a_kill(
    source: LiveServer, old: Any, old_bucket: str, tmp_path: Path
) -> None:
    for number in range(40):
        old.put_object(Bucket=old_bucket, Key=f"{number:02}", Body=os.urandom(10_000))
    with live_server(tmp_path / "target") as target:
        new = target.client()
        new.create_bucket(Bucket="new-bucket")
        job = begin(
            target, source.url, old_bucket, "new-bucket", "--read-through", "--bandwidth", "40000", "--concurrency", "1"
        )
        until(lambda: bool(status(target, job)["listed_once"]))
        for key in ("00", "20", "39"):
            new.delete_object(Bucket="new-bucket", Key=key)
        target.kill()
        target.start()
        new = target.client()
        expected = [f"{number:02}" for number in range(40) if number not in (0, 20, 39)]
        assert keys_of(new, "new-bucket") == expected  # some here, some still to come
        assert rest(target, job)["state"] == "complete"
        assert keys_of(new, "new-bucket") == expected
