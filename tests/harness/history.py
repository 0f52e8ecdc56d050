"""Mixed load from real clients on a few keys, and what it must look like afterwards.

Every value is recognisable: its bytes are made from its number and length, so a read names exactly the write it saw,
and half a value can't be taken for a whole one.
"""

from __future__ import annotations

import hashlib
import http.client
import random
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from tests.harness.linearizability import NEVER, Applied, Operation, State, check
from tests.harness.live_server import LiveServer

ABSENT: State = None
SIZES = (0, 17, 3000, 10_000, 200_000, 1_500_000)
PART = 5 << 20
#: A slow upload: bytes at a time, and the pause after each. One takes about half a second.
TRICKLE = 50_000
PAUSE = 0.02
#: How many new buckets are looked at again after they were looked at once.
REMEMBERED = 20
#: Threads that upload slowly, beside the others: at any instant a request is under way.
SLOW = 2


def content(number: int, size: int) -> bytes:
    """The bytes of value `number`: its number first, so that even a prefix is recognisable."""
    return random.Random(number).randbytes(size) if size else b""


def tag(body: bytes) -> str:
    """What a value is called in a history."""
    return hashlib.sha256(body).hexdigest()[:16] + f"/{len(body)}"


@dataclass
class History:
    """Operations per key, in real time of this process, and what each key held before."""

    initial: dict[str, State] = field(default_factory=dict)
    operations: dict[str, list[Operation]] = field(default_factory=lambda: defaultdict(list))
    acknowledged: int = 0
    unknown: int = 0
    made: dict[str, str] = field(default_factory=dict)  # new bucket -> the value of its one object
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, key: str, operation: Operation) -> None:
        with self.lock:
            self.operations[key].append(operation)
            if operation.optional:
                self.unknown += 1
            else:
                self.acknowledged += 1

    def recorded(self) -> int:
        """Operations whose outcome is known or may be."""
        return self.acknowledged + self.unknown

    def violations(self) -> list[str]:
        """Every key whose answers no order explains."""
        found = []
        for key, operations in sorted(self.operations.items()):
            verdict = check(operations, self.initial.get(key, ABSENT))
            if verdict is not None:
                found.append(f"{key}: {verdict}")
        return found


def _sets(value: State) -> Any:
    return lambda _: Applied(value)


def _creates(value: State) -> Any:
    return lambda state: Applied(value) if state is ABSENT else None


def _replaces(expected: State, value: State) -> Any:
    return lambda state: Applied(value) if state == expected else None


def _refused_unless(expected: State) -> Any:
    """An If-Match write that was refused: the state was something else."""
    return lambda state: Applied(state) if state != expected else None


def _sees(value: State) -> Any:
    return lambda state: Applied(state) if state == value else None


def _exists() -> Any:
    return lambda state: Applied(state) if state is not ABSENT else None


class LoadGenerator:
    """Threads of boto3 clients; each thread does one operation after the other until told to stop or cut off."""

    def __init__(self, server: LiveServer, history: History, *, seed: int, keys: int = 6, threads: int = 6) -> None:
        self._server = server
        self._history = history
        self._random = random.Random(seed)
        self._keys = [f"key/{number}" for number in range(keys)]
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(self._random.getrandbits(60),), daemon=True)
            for _ in range(threads)
        ]
        self._threads += [
            threading.Thread(target=self._work_slowly, args=(self._random.getrandbits(60),), daemon=True)
            for _ in range(SLOW)
        ]
        self._client = server.client()  # shared: boto3 clients are safe among threads, and cost 0.1 s each
        self.bucket = "crash"
        self.unexpected: list[str] = []
        self.cut_off = 0  # requests that were under way when the server died

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _work(self, seed: int) -> None:
        seeded = random.Random(seed)
        client = self._client
        while not self._stop.is_set():
            key = seeded.choice(self._keys)
            number = seeded.getrandbits(48)
            body = content(number, seeded.choice(SIZES))
            action = seeded.choices(
                (
                    self._put,
                    self._create,
                    self._update,
                    self._multipart,
                    self._copy,
                    self._delete,
                    self._remove,
                    self._get,
                    self._new_bucket,
                ),
                weights=(6, 3, 3, 2, 2, 3, 2, 6, 1),
            )[0]
            try:
                action(client, key, body, seeded)
            except _Gone as gone:
                with self._history.lock:
                    self.cut_off += not isinstance(gone.__cause__, EndpointConnectionError | ConnectionRefusedError)
                return
            except ClientError as error:
                self.unexpected.append(f"{action.__name__} {key}: {error}")

    def _work_slowly(self, seed: int) -> None:
        seeded = random.Random(seed)
        while not self._stop.is_set():
            key = seeded.choice(self._keys)
            body = content(seeded.getrandbits(48), SIZES[-1])
            target = self._client.generate_presigned_url("put_object", {"Bucket": self.bucket, "Key": key})
            try:
                self._run(
                    key, f"slow put {tag(body)}", _sets(tag(body)), lambda url=target, data=body: _trickle(url, data)
                )
            except _Gone as gone:
                with self._history.lock:
                    self.cut_off += not isinstance(gone.__cause__, ConnectionRefusedError)
                return
            except ClientError as error:
                self.unexpected.append(f"slow put {key}: {error}")

    def _run(self, key: str, name: str, step: Any, call: Any) -> Any:
        """Do `call` and record it: as done, or as maybe done when the connection broke. ClientErrors propagate."""
        start = time.monotonic()
        try:
            answer = call()
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status >= 500:
                self._history.add(key, Operation(f"{name} (status {status})", start, step, NEVER, optional=True))
                return None
            raise
        except (BotoCoreError, OSError, http.client.HTTPException) as error:
            self._history.add(key, Operation(f"{name} (no answer)", start, step, NEVER, optional=True))
            raise _Gone from error
        self._history.add(key, Operation(name, start, step, time.monotonic()))
        return answer

    def _put(self, client: Any, key: str, body: bytes, _: random.Random) -> Any:
        value = tag(body)
        return self._run(
            key, f"put {value}", _sets(value), lambda: client.put_object(Bucket=self.bucket, Key=key, Body=body)
        )  # fmt: skip

    def _create(self, client: Any, key: str, body: bytes, _: random.Random) -> None:
        value = tag(body)
        start = time.monotonic()
        try:
            self._run(
                key, f"create {value}", _creates(value),
                lambda: client.put_object(Bucket=self.bucket, Key=key, Body=body, IfNoneMatch="*"),
            )  # fmt: skip
        except ClientError as error:
            self._expect(error, "PreconditionFailed", "ConditionalRequestConflict")
            if error.response["Error"]["Code"] == "PreconditionFailed":
                self._history.add(key, Operation("create refused", start, _exists(), time.monotonic()))

    def _update(self, client: Any, key: str, body: bytes, seeded: random.Random) -> None:
        current = self._get(client, key, body, seeded)
        if current is None:
            return
        etag, seen = current
        value = tag(body)
        start = time.monotonic()
        try:
            self._run(
                key, f"update {seen} -> {value}", _replaces(seen, value),
                lambda: client.put_object(Bucket=self.bucket, Key=key, Body=body, IfMatch=etag),
            )  # fmt: skip
        except ClientError as error:
            self._expect(error, "PreconditionFailed", "NoSuchKey", "ConditionalRequestConflict")
            if error.response["Error"]["Code"] != "ConditionalRequestConflict":
                self._history.add(
                    key, Operation(f"update of {seen} refused", start, _refused_unless(seen), time.monotonic())
                )  # fmt: skip

    def _multipart(self, client: Any, key: str, _: bytes, seeded: random.Random) -> None:
        number = seeded.getrandbits(48)
        body = content(number, PART + 1000)
        value = tag(body)
        try:
            upload = client.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"]
            parts: list[dict[str, Any]] = []
            for part, piece in ((2, body[PART:]), (1, body[:PART])):
                done = client.upload_part(Bucket=self.bucket, Key=key, UploadId=upload, PartNumber=part, Body=piece)
                parts.insert(0, {"PartNumber": part, "ETag": done["ETag"]})
        except (BotoCoreError, OSError) as error:
            raise _Gone from error
        self._run(
            key, f"multipart {value}", _sets(value),
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
        self._run(
            key, f"copy {value}", _sets(value),
            lambda: client.copy_object(
                Bucket=self.bucket, Key=key, CopySource={"Bucket": self.bucket, "Key": source}
            ),
        )  # fmt: skip
        self._delete(client, source, b"", seeded)

    def _delete(self, client: Any, key: str, _: bytes, __: random.Random) -> None:
        self._run(key, "delete", _sets(ABSENT), lambda: client.delete_object(Bucket=self.bucket, Key=key))

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
            raise _Gone from error
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
            self._run(
                key, f"delete of {seen}", _replaces(seen, ABSENT),
                lambda: client.delete_object(Bucket=self.bucket, Key=key, IfMatch=etag),
            )  # fmt: skip
        except ClientError as error:
            self._expect(error, "PreconditionFailed", "NoSuchKey", "ConditionalRequestConflict")
            if error.response["Error"]["Code"] != "ConditionalRequestConflict":
                self._history.add(
                    key, Operation(f"delete of {seen} refused", start, _refused_unless(seen), time.monotonic())
                )  # fmt: skip

    def _get(self, client: Any, key: str, _: bytes, __: random.Random) -> tuple[str, str] | None:
        return read(client, self.bucket, key, self._history)

    def _expect(self, error: ClientError, *codes: str) -> None:
        if error.response["Error"]["Code"] not in codes:
            raise error


def _trickle(url: str, body: bytes) -> bool:
    """PUT `body` to a presigned URL, a little at a time. Raises ClientError, OSError, HTTPException."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    try:
        connection.putrequest("PUT", f"{parts.path}?{parts.query}")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        for start in range(0, len(body), TRICKLE):
            connection.send(body[start : start + TRICKLE])
            time.sleep(PAUSE)
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if answer.status != 200:
        code = text.partition("<Code>")[2].partition("</Code>")[0]
        status: Any = {"HTTPStatusCode": answer.status}
        raise ClientError({"Error": {"Code": code, "Message": text}, "ResponseMetadata": status}, "PutObject")
    return True


class _Gone(Exception):
    """The server is dead; this thread's work ends."""


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
        raise _Gone from error
    value = tag(body)
    history.add(key, Operation(f"get {value}", start, _sees(value), time.monotonic()))
    return answer["ETag"], value


def settle(server: LiveServer, bucket: str, history: History) -> History:
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


def empty(server: LiveServer) -> None:
    """Remove what a load can have left: every object and upload of every bucket."""
    client = server.client()
    for bucket in [entry["Name"] for entry in client.list_buckets()["Buckets"]]:
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
            for upload in page.get("Uploads", []):
                client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            keys = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
            if keys:
                client.delete_objects(Bucket=bucket, Delete={"Objects": keys})
