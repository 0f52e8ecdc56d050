"""What fixtures hold: something of everything that a deployment stores, small.

Written through the public door of whichever release runs, so only with what the oldest fixture's release can do.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from botocore import UNSIGNED
from botocore.config import Config

from tests.harness.live_server import LiveServer
from tests.harness.load import content

#: Name -> access key id and secret of the users that exist; `bob` is removed again.
USERS = {
    "alice": ("AKIATESTALICE0000001", "test/secret/of/alice/0000000000000000001"),
    "bob": ("AKIATESTBOB000000001", "test/secret/of/bob/000000000000000000001"),
}
#: One more than a pack holds.
SEGMENT = (1 << 20) + 11_000
#: A bucket that is filled last, right before a kill.
LATE = "late"
ODD_KEYS = (
    "a b+c%2Fd&e=f?g#h",
    "ключ/鍵/🗝",
    "e\u0301 is not \u00e9",
    "//double//slashes//",
    "folder/",
    ".",
    "..",
    "../up",
    "\x01control\x7f",
    "<tag>&amp;'\"",
    "back\\slash",
    "long/" + "x" * 1019,
    "long/" + "x" * 1018 + "y",
    "long/" + "é" * 500,
)

Written = dict[tuple[str, str], str]


def client_of(server: LiveServer, user: str) -> Any:
    """A client of one of the users, of the root user ("root") or of nobody ("anonymous")."""
    if user == "root":
        return server.client()
    if user == "anonymous":
        return server.client(config=Config(signature_version=UNSIGNED))
    key_id, secret = USERS[user]
    return server.client(aws_access_key_id=key_id, aws_secret_access_key=secret)


def add_users(server: LiveServer) -> None:
    """With the command, as an operator does; its form is older than its JSON."""
    secret_file = server.folder / "secret"
    for name, (key_id, secret) in USERS.items():
        secret_file.write_text(secret)
        done = server.command(
            *("user", "add", name, "--email", f"{name}@example.com", "--access-key-id", key_id),
            *("--secret-file", str(secret_file)),
        )
        assert done.returncode == 0, done.stderr
    secret_file.unlink()


class Writer:
    """Writes it all, and notes the sha-256 of what each key holds in the end."""

    def __init__(self, server: LiveServer) -> None:
        self._server = server
        self._client = server.client()
        self._number = 0
        self.written: Written = {}

    def write(self) -> Written:
        """To a new deployment. The caller has added the users."""
        self._plain()
        self._odd_keys()
        self._multipart()
        self._copies()
        self._versioned()
        self._shared()
        self._removed()
        return self.written

    def put(self, bucket: str, key: str, size: int, client: Any = None, **options: Any) -> Any:
        self._number += 1
        body = content(self._number, size)
        answer = (client or self._client).put_object(Bucket=bucket, Key=key, Body=body, **options)
        self.written[bucket, key] = hashlib.sha256(body).hexdigest()
        return answer

    def _plain(self) -> None:
        client = self._client
        client.create_bucket(Bucket="plain")
        client.put_bucket_tagging(
            Bucket="plain", Tagging={"TagSet": [{"Key": "team", "Value": "reef"}, {"Key": "empty", "Value": ""}]}
        )
        for size in (0, 1, 4096, 4097, 30_000, SEGMENT):
            self.put("plain", f"size/{size}", size)
        # At once, so that some of them share a pack.
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: self.put("plain", f"together/{number}", 4500 + number), range(8)))
        self.put(
            *("plain", "headers", 5000),
            ContentType="text/x-test; charset=utf-8",
            CacheControl="max-age=60",
            ContentDisposition='attachment; filename="a.txt"',
            ContentEncoding="identity",
            ContentLanguage="de",
            Expires=datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC),
            Metadata={"colour": "blue", "with-dash": "a  b"},
            Tagging="one=1&two=%C3%BC",
            ACL="public-read",
        )
        for algorithm in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
            self.put("plain", f"checksum/{algorithm}", 600, ChecksumAlgorithm=algorithm)

    def _odd_keys(self) -> None:
        self._client.create_bucket(Bucket="odd-keys")
        for key in ODD_KEYS:
            self.put("odd-keys", key, 40)

    def _multipart(self) -> None:
        client = self._client
        bucket, source = "plain", f"size/{SEGMENT}"
        upload = client.create_multipart_upload(
            Bucket=bucket, Key="multipart", Metadata={"made": "of parts"}, ChecksumAlgorithm="CRC32C"
        )["UploadId"]
        bodies = [content(1000 + number, size) for number, size in ((1, 70_000), (2, 3000), (4, 20_000))]
        parts = []
        for number, body in zip((1, 2, 4), bodies, strict=True):
            done = client.upload_part(
                Bucket=bucket, Key="multipart", UploadId=upload, PartNumber=number, Body=body,
                ChecksumAlgorithm="CRC32C",
            )  # fmt: skip
            parts.append({"PartNumber": number, "ETag": done["ETag"], "ChecksumCRC32C": done["ChecksumCRC32C"]})
        client.complete_multipart_upload(
            Bucket=bucket, Key="multipart", UploadId=upload, MultipartUpload={"Parts": parts}
        )
        self.written[bucket, "multipart"] = hashlib.sha256(b"".join(bodies)).hexdigest()
        # One made of a range of something else.
        first, last = 65_000, 700_000
        upload = client.create_multipart_upload(Bucket=bucket, Key="of-a-range")["UploadId"]
        range_part = client.upload_part_copy(
            Bucket=bucket, Key="of-a-range", UploadId=upload, PartNumber=1,
            CopySource={"Bucket": bucket, "Key": source}, CopySourceRange=f"bytes={first}-{last}",
        )  # fmt: skip
        tail = content(1010, 2000)
        own = client.upload_part(Bucket=bucket, Key="of-a-range", UploadId=upload, PartNumber=2, Body=tail)
        client.complete_multipart_upload(
            Bucket=bucket, Key="of-a-range", UploadId=upload,
            MultipartUpload={"Parts": [
                {"PartNumber": 1, "ETag": range_part["CopyPartResult"]["ETag"]},
                {"PartNumber": 2, "ETag": own["ETag"]},
            ]},
        )  # fmt: skip
        whole = client.get_object(Bucket=bucket, Key=source)["Body"].read()
        self.written[bucket, "of-a-range"] = hashlib.sha256(whole[first : last + 1] + tail).hexdigest()
        # Still under way: with a part that was sent twice; another without any.
        upload = client.create_multipart_upload(
            Bucket=bucket, Key="under way", Tagging="state=begun", ContentType="text/plain", ACL="public-read"
        )["UploadId"]
        for number, size in ((3, 6000), (1, 9000), (3, 2000)):
            client.upload_part(
                Bucket=bucket, Key="under way", UploadId=upload, PartNumber=number, Body=content(1100 + size, size)
            )  # fmt: skip
        client.create_multipart_upload(Bucket=bucket, Key="under way")
        given_up = client.create_multipart_upload(Bucket=bucket, Key="given up")["UploadId"]
        client.upload_part(Bucket=bucket, Key="given up", UploadId=given_up, PartNumber=1, Body=b"x" * 5000)
        client.abort_multipart_upload(Bucket=bucket, Key="given up", UploadId=given_up)

    def _copies(self) -> None:
        for source, target in (
            (f"size/{SEGMENT}", "copy/of-segments"),
            ("size/30000", "copy/of-pack"),
            ("size/4096", "copy/of-inline"),
            ("multipart", "copy/of-multipart"),
            ("copy/of-segments", "copy/of-copy"),
            ("together/3", "copy/outlives-its-source"),
        ):
            self._client.copy_object(
                Bucket="plain", Key=target, CopySource={"Bucket": "plain", "Key": source}, ACL="bucket-owner-read"
            )
            self.written["plain", target] = self.written["plain", source]
        self._client.copy_object(
            Bucket="plain", Key="size/4097", CopySource={"Bucket": "plain", "Key": "size/4097"},
            MetadataDirective="REPLACE", Metadata={"new": "metadata"}, ContentType="image/x-test",
        )  # fmt: skip
        self.delete("plain", "together/3")

    def delete(self, bucket: str, key: str) -> None:
        self._client.delete_object(Bucket=bucket, Key=key)
        del self.written[bucket, key]

    def _versioned(self) -> None:
        client, bucket = self._client, "versioned"
        client.create_bucket(Bucket=bucket)

        def versioning(status: str) -> None:
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})

        self.put(bucket, "null first", 100)
        self.put(bucket, "null only", 5000)
        versioning("Enabled")
        for size in (200, 6000, 0):
            self.put(bucket, "null first", size, Metadata={"size": str(size)})
        doomed = self.put(bucket, "gap", 10)["VersionId"]
        self.put(bucket, "gap", 20)
        client.delete_object(Bucket=bucket, Key="gap", VersionId=doomed)
        tagged = self.put(bucket, "tagged", 30, Tagging="a=1")["VersionId"]
        self.put(bucket, "tagged", 31)
        client.put_object_tagging(
            Bucket=bucket, Key="tagged", VersionId=tagged, Tagging={"TagSet": [{"Key": "b", "Value": "2"}]}
        )  # fmt: skip
        self.put(bucket, "deleted", 7000)
        self.delete(bucket, "deleted")
        client.delete_object(Bucket=bucket, Key="never there")
        versioning("Suspended")
        self.put(bucket, "null first", 300)
        self.put(bucket, "null last", 8000)
        self.put(bucket, "null marker", 50)
        self.delete(bucket, "null marker")

    def _shared(self) -> None:
        client, alice = self._client, client_of(self._server, "alice")
        client.create_bucket(Bucket="shared", ACL="public-read-write")
        self.put("shared", "of root", 60)
        self.put("shared", "of alice", 70, alice, ACL="bucket-owner-full-control")
        self.put("shared", "of alice alone", 80, alice)
        self.put("shared", "of nobody", 90, client_of(self._server, "anonymous"))
        alice.create_bucket(Bucket="of-alice", ACL="authenticated-read")
        self.put("of-alice", "for users", 5100, alice, ACL="authenticated-read")
        self.put("of-alice", "private", 100, alice)
        client_of(self._server, "bob").create_bucket(Bucket="of-bob")
        assert self._server.command("user", "remove", "bob").returncode == 0

    def _removed(self) -> None:
        client = self._client
        client.create_bucket(Bucket="empty")
        client.create_bucket(Bucket=LATE)
        client.create_bucket(Bucket="removed")
        self.put("removed", "key", 5200)
        self.delete("removed", "key")
        client.delete_bucket(Bucket="removed")
        for size in (100, 5300, SEGMENT - 5000):
            self.put("plain", "overwritten", size)
        self.put("plain", "overwritten", 5400)
