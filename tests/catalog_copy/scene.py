"""Clients that write while a catalog is copied and moved, and everything of S3 that must be the same afterwards."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from catalog.copying.marks import CopyRow, MovedRow, read_marks
from catalog.epochs import Epochs
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.postgres_engine.address import is_address
from catalog.postgres_engine.catalog import PostgresCatalog
from core.clock import SystemClock
from core.ids import is_snapshot_name
from gateway.admin.client import AdminClient
from tests.harness.live_server import LiveServer

BUCKET, KEEPING, OWN = "bucket", "keeping", "bucket-of-somebody"
#: Inline, staged or packed, segments of their own.
SIZES = (0, 100, 3_000, 20_000, 300_000, 2_000_000)
FIRST_PART = bytes(range(256)) * (5 << 12)
TAGS = {"TagSet": [{"Key": "a", "Value": "b"}]}


class Door(Protocol):
    """Whoever gives clients of a server."""

    def client(self, **options: Any) -> Any: ...


class Writers:
    """Clients that put and delete until told to stop, and note what was acknowledged."""

    def __init__(self, server: Door, *, count: int = 2, name: str = "w") -> None:
        self.acknowledged: dict[str, bytes | None] = {}
        self.unsure: set[str] = set()
        self.codes: set[str] = set()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(server.client(), f"{name}{number}", number))
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def wait(self, count: int) -> None:
        """Until so many more writes were acknowledged."""
        deadline = time.monotonic() + 30
        before = len(self.acknowledged)
        while len(self.acknowledged) < before + count:
            assert time.monotonic() < deadline, "nothing is acknowledged"
            time.sleep(0.01)

    def stop(self) -> dict[str, bytes | None]:
        """What must be there: the last acknowledged write of each key that has no unanswered one behind it."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        return {key: body for key, body in self.acknowledged.items() if key not in self.unsure}

    def _work(self, client: Any, name: str, seed: int) -> None:
        chance = random.Random(seed)
        for number in range(1_000_000):
            if self._stop.is_set():
                return
            # Mostly keys of its own, so that there are many acknowledged ones; some again and again.
            key = f"{name}/{chance.randrange(20)}" if chance.random() < 0.4 else f"{name}/new/{number}"
            body = None if chance.random() < 0.2 else chance.randbytes(chance.choice(SIZES[:5]))
            try:
                if body is None:
                    client.delete_object(Bucket=BUCKET, Key=key)
                else:
                    client.put_object(Bucket=BUCKET, Key=key, Body=body)
            except ClientError as error:
                # Refused: what is there is what was there.
                self.codes.add(error.response["Error"]["Code"])
                time.sleep(0.02)
            except BotoCoreError:
                self.unsure.add(key)
                time.sleep(0.1)
            else:
                self.acknowledged[key] = body
                self.unsure.discard(key)
                time.sleep(0.01)


class Stock:
    """Things of every kind, made before a move and looked at after it."""

    def __init__(self, server: LiveServer) -> None:
        client = server.client()
        chance = random.Random(7)
        client.create_bucket(Bucket=BUCKET)
        client.create_bucket(Bucket=KEEPING)
        client.put_bucket_versioning(Bucket=KEEPING, VersioningConfiguration={"Status": "Enabled"})
        client.put_bucket_tagging(Bucket=KEEPING, Tagging=TAGS)
        self.bodies: dict[str, bytes | None] = {
            f"{'ü' * (number % 3 * 200)}first/{number}": chance.randbytes(SIZES[number % len(SIZES)])
            for number in range(18)
        }
        for key, body in self.bodies.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=body or b"", Metadata={"made": key[-1]})
        user = AdminClient(server.data).call("POST", "/users", {"name": "somebody"})
        self.login = {
            "aws_access_key_id": user["access_key_id"], "aws_secret_access_key": user["secret_access_key"]
        }  # fmt: skip
        server.client(**self.login).create_bucket(Bucket=OWN)
        AdminClient(server.data).call("PUT", "/users/quota", {"name": "somebody", "max_buckets": 1})
        self._begin(client)

    def _begin(self, client: Any) -> None:
        """What only the next check ends: versions, and an upload in parts."""
        for number in range(3):
            client.put_object(Bucket=KEEPING, Key="key", Body=b"version %d" % number)
        client.delete_object(Bucket=KEEPING, Key="key")
        self._versions = versions(client)
        self._upload = {
            "Bucket": BUCKET, "Key": "whole",
            "UploadId": client.create_multipart_upload(Bucket=BUCKET, Key="whole")["UploadId"],
        }  # fmt: skip
        self._first = client.upload_part(**self._upload, PartNumber=1, Body=FIRST_PART)["ETag"]

    def check(self, server: LiveServer, written: Mapping[str, bytes | None]) -> None:
        """All of it is there, and works on."""
        client = server.client()
        check(client, {**self.bodies, **written})
        assert client.head_object(Bucket=BUCKET, Key="first/3")["Metadata"] == {"made": "3"}
        assert client.get_bucket_tagging(Bucket=KEEPING)["TagSet"] == TAGS["TagSet"]
        assert versions(client) == self._versions
        assert [part["ETag"] for part in client.list_parts(**self._upload)["Parts"]] == [self._first]
        second = client.upload_part(**self._upload, PartNumber=2, Body=b"second")["ETag"]
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in ((1, self._first), (2, second))]
        client.complete_multipart_upload(**self._upload, MultipartUpload={"Parts": parts})
        assert read(client, "whole") == FIRST_PART + b"second"
        theirs = server.client(**self.login)
        assert [bucket["Name"] for bucket in theirs.list_buckets()["Buckets"]] == [OWN]
        assert refusal(lambda: theirs.create_bucket(Bucket="one-too-many")) == "TooManyBuckets"
        theirs.put_object(Bucket=OWN, Key="key", Body=b"theirs")
        assert refusal(lambda: theirs.get_object(Bucket=BUCKET, Key="first/3")) == "AccessDenied"
        self._begin(client)


def versions(client: Any) -> dict[str, bytes | None]:
    """The versions of the key in the bucket that keeps them, with what they hold; None for a delete marker."""
    answer = client.list_object_versions(Bucket=KEEPING, Prefix="key")
    found: dict[str, bytes | None] = {one["VersionId"]: None for one in answer["DeleteMarkers"]}
    for one in answer["Versions"]:
        body = client.get_object(Bucket=KEEPING, Key="key", VersionId=one["VersionId"])["Body"]
        found[one["VersionId"]] = body.read()
    return found


def read(client: Any, key: str) -> bytes | None:
    try:
        body: bytes = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
        return None
    return body


def refusal(call: Any) -> str:
    """The code of a call's refusal; "" for none."""
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def check(client: Any, expected: Mapping[str, bytes | None]) -> None:
    """Each key holds this, and the listing knows it."""
    for key, body in expected.items():
        assert read(client, key) == body, key
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    listed = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    assert listed == sorted(listed, key=str.encode)
    assert {key for key, body in expected.items() if body is not None} <= set(listed)
    assert not {key for key, body in expected.items() if body is None} & set(listed)


def pieces(server: LiveServer) -> set[Path]:
    """The files of pieces of objects on a server's nodes."""
    return {
        path
        for path in server.nodes.rglob("*")
        if path.is_file() and path.name != "node.marker" and not is_snapshot_name(path.name)
    }


def tidy_and_verify(server: LiveServer) -> None:
    """Nothing that objects need is collected, and every object can be read."""
    admin = AdminClient(server.data)
    for worker in ("settling", "compaction", "reclaim", "collection", "reclaim", "collection"):
        admin.call("POST", f"/workers/{worker}/run")
    report = list(admin.stream("POST", "/check", repair="no", resume=""))[-1]
    assert report["objects"] > 0
    assert not any(report[trouble] for trouble in ("damaged", "unreachable", "unreadable")), report


def copy_to(server: LiveServer, target: str | Path, *, switch: bool = False) -> dict[str, Any]:
    """What the command does; its last step. Raises Refused, and NotRunning where the server dies meanwhile."""
    steps = AdminClient(server.data).stream("POST", "/catalog/copy", {"target": str(target), "switch": switch})
    return list(steps)[-1]


def marks(place: str | Path) -> tuple[MovedRow | None, CopyRow | None]:
    """The marks of a catalog that no server uses: of a database's address, or of a data folder."""

    async def look() -> tuple[MovedRow | None, CopyRow | None]:
        catalog: LmdbCatalog | PostgresCatalog
        if is_address(str(place)):
            catalog = await PostgresCatalog.open(str(place))
        else:
            catalog = await LmdbCatalog.open(Path(place) / "catalog")
        try:
            return await catalog.read(read_marks)
        finally:
            await catalog.close()

    return asyncio.run(look())


def declare_dead(url: str) -> None:
    """What gateways find out by themselves in 15 s: of all that registered in the database only the newest lives."""

    async def declare() -> None:
        catalog = await PostgresCatalog.open(url)
        try:
            epochs = Epochs(catalog, SystemClock(), 0, alone=False)
            for epoch in (await epochs.live())[:-1]:
                await epochs.mark_dead(epoch)
        finally:
            await catalog.close()

    asyncio.run(declare())
