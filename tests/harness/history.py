"""Mixed load from real clients on a few keys, and what it must look like afterwards."""

from __future__ import annotations

import random
import time
from typing import Any, ClassVar

from botocore.exceptions import BotoCoreError, ClientError

from tests.harness.linearizability import Applied, Operation, State
from tests.harness.load import ABSENT, PART, Door, Gone, History, Load, Write, content, expect, tag, trickle

#: How many new buckets are looked at again after they were looked at once.
REMEMBERED = 20


def _refused_unless(expected: State) -> Any:
    """An If-Match write that was refused: the state was something else."""
    return lambda state: Applied(state) if state != expected else None


def _sees(value: State) -> Any:
    return lambda state: Applied(state) if state == value else None


def _exists() -> Any:
    return lambda state: Applied(state) if state is not ABSENT else None


class LoadGenerator(Load):
    """Load on a bucket without versioning: a key holds a value or is absent."""

    actions: ClassVar[dict[str, int]] = {
        "_put": 6,
        "_create": 3,
        "_update": 3,
        "_multipart": 2,
        "_copy": 2,
        "_delete": 3,
        "_remove": 2,
        "_get": 6,
        "_new_bucket": 1,
    }

    def put_slowly(self, key: str, body: bytes, url: str) -> None:
        self.run(key, f"slow put {tag(body)}", Write(tag(body)), lambda: trickle(url, body))

    def _put(self, client: Any, key: str, body: bytes, _: random.Random) -> Any:
        value = tag(body)
        return self.run(
            key, f"put {value}", Write(value), lambda: client.put_object(Bucket=self.bucket, Key=key, Body=body)
        )  # fmt: skip

    def _create(self, client: Any, key: str, body: bytes, _: random.Random) -> None:
        value = tag(body)
        start = time.monotonic()
        try:
            self.run(
                key, f"create {value}", Write(value, over=ABSENT),
                lambda: client.put_object(Bucket=self.bucket, Key=key, Body=body, IfNoneMatch="*"),
            )  # fmt: skip
        except ClientError as error:
            code = expect(error, "PreconditionFailed", "ConditionalRequestConflict")
            if code == "PreconditionFailed":
                self._history.add(key, Operation("create refused", start, _exists(), time.monotonic()))

    def _update(self, client: Any, key: str, body: bytes, seeded: random.Random) -> None:
        current = self._get(client, key, body, seeded)
        if current is None:
            return
        etag, seen = current
        value = tag(body)
        start = time.monotonic()
        try:
            self.run(
                key, f"update {seen} -> {value}", Write(value, over=seen),
                lambda: client.put_object(Bucket=self.bucket, Key=key, Body=body, IfMatch=etag),
            )  # fmt: skip
        except ClientError as error:
            code = expect(error, "PreconditionFailed", "NoSuchKey", "ConditionalRequestConflict")
            if code != "ConditionalRequestConflict":
                self._history.add(
                    key, Operation(f"update of {seen} refused", start, _refused_unless(seen), time.monotonic())
                )  # fmt: skip

    def _multipart(self, client: Any, key: str, _: bytes, seeded: random.Random) -> None:
        number = seeded.getrandbits(48)
        body = content(number, PART + 1000)
        value = tag(body)
        upload, parts = self.multipart(client, key, body)
        self.run(
            key, f"multipart {value}", Write(value),
            lambda: client.complete_multipart_upload(
                Bucket=self.bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
            ),
        )  # fmt: skip

    def _copy(self, client: Any, key: str, body: bytes, seeded: random.Random) -> None:
        """Copy from a private key of this thread, so that the value copied is known."""
        source = f"source/{seeded.getrandbits(60)}"
        value = tag(body)
        if self._put(client, source, body, seeded) is None:
            return
        self.run(
            key, f"copy {value}", Write(value),
            lambda: client.copy_object(
                Bucket=self.bucket, Key=key, CopySource={"Bucket": self.bucket, "Key": source}
            ),
        )  # fmt: skip
        self._delete(client, source, b"", seeded)

    def _delete(self, client: Any, key: str, _: bytes, __: random.Random) -> None:
        self.run(key, "delete", Write(ABSENT), lambda: client.delete_object(Bucket=self.bucket, Key=key))

    def _new_bucket(self, client: Any, _: str, body: bytes, seeded: random.Random) -> None:
        """A bucket, which has a key of its own, and an object in it."""
        name = f"made-{seeded.getrandbits(60):x}"
        try:
            client.create_bucket(Bucket=name)
            client.put_object(Bucket=name, Key="key", Body=body)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                raise
            return
        except (BotoCoreError, OSError) as error:
            raise Gone from error
        with self._history.lock:
            self._history.made[name] = tag(body)

    def _remove(self, client: Any, key: str, _: bytes, seeded: random.Random) -> None:
        """Delete what was just seen, and nothing else."""
        current = self._get(client, key, b"", seeded)
        if current is None:
            return
        etag, seen = current
        start = time.monotonic()
        try:
            self.run(
                key, f"delete of {seen}", Write(ABSENT, over=seen),
                lambda: client.delete_object(Bucket=self.bucket, Key=key, IfMatch=etag),
            )  # fmt: skip
        except ClientError as error:
            code = expect(error, "PreconditionFailed", "NoSuchKey", "ConditionalRequestConflict")
            if code != "ConditionalRequestConflict":
                self._history.add(
                    key, Operation(f"delete of {seen} refused", start, _refused_unless(seen), time.monotonic())
                )  # fmt: skip

    def _get(self, client: Any, key: str, _: bytes, __: random.Random) -> tuple[str, str] | None:
        return read(client, self.bucket, key, self._history)


def read(client: Any, bucket: str, key: str, history: History) -> tuple[str, str] | None:
    """GET a key, record what was seen; its ETag and value, or None when absent."""
    start = time.monotonic()
    try:
        answer = client.get_object(Bucket=bucket, Key=key)
        body = answer["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            history.add(key, Operation("get: absent", start, _sees(ABSENT), time.monotonic()))
            return None
        raise
    except (BotoCoreError, OSError) as error:
        raise Gone from error
    value = tag(body)
    history.show(key, value)
    history.add(key, Operation(f"get {value}", start, _sees(value), time.monotonic()))
    return answer["ETag"], value


def settle(server: Door, bucket: str, history: History) -> History:
    """Read and list every key once more, so that the history ends with what is really there; the history that goes on
    from it.

    Raises AssertionError if no order of the operations explains the answers, or the listing differs from them.
    """
    client = server.client()
    present: dict[str, State] = {}
    etags: dict[str, str] = {}
    for key in sorted({*history.operations, *history.initial}):
        seen = read(client, bucket, key, history)
        present[key] = seen[1] if seen else ABSENT
        if seen:
            etags[key] = seen[0]
    violations = history.violations()
    assert not violations, "\n".join(violations)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    listed = {entry["Key"]: entry["ETag"] for page in pages for entry in page.get("Contents", [])}
    assert listed == etags, "the listing is not what is there"
    for name, value in history.made.items():
        assert tag(client.get_object(Bucket=name, Key="key")["Body"].read()) == value, name
    made = dict(list(history.made.items())[-REMEMBERED:])
    return History(present, acknowledged=history.acknowledged, unknown=history.unknown, made=made)


def empty(server: Door) -> None:
    """Remove what a load can have left: every version and upload of every bucket."""
    client = server.client()
    for bucket in [entry["Name"] for entry in client.list_buckets()["Buckets"]]:
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
            for upload in page.get("Uploads", []):
                client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
            found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if found:
                doomed = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in found]
                client.delete_objects(Bucket=bucket, Delete={"Objects": doomed})
