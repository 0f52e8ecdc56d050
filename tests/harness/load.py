"""Threads of clients that put load on a server, and the history of what they were answered.

Every value is recognisable: its bytes are made from its number and length, so a read names exactly the write it saw,
and half a value can't be taken for a whole one.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import http.client
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from tests.harness.linearizability import NEVER, Applied, Operation, State, Step, check

ABSENT: State = None
SIZES = (0, 17, 3000, 10_000, 200_000, 1_500_000)
PART = 5 << 20
#: A slow upload: bytes at a time, and the pause after each. One takes about half a second.
TRICKLE = 50_000
PAUSE = 0.02
#: Threads that upload slowly, beside the others: at any instant a request is under way.
SLOW = 2


def content(number: int, size: int) -> bytes:
    """The bytes of value `number`: its number first, so that even a prefix is recognisable."""
    return random.Random(number).randbytes(size) if size else b""


def tag(body: bytes) -> str:
    """What a value is called in a history."""
    return hashlib.sha256(body).hexdigest()[:16] + f"/{len(body)}"


#: What a key holds after a write whose value nobody was shown.
UNSEEN: State = "unseen"
_ANY = object()


@dataclass(frozen=True, slots=True)
class Write:
    """A step: the key holds `value` afterwards. With `over` only where it held that before."""

    value: State
    over: object = _ANY

    def __call__(self, state: State) -> Applied | None:
        return Applied(self.value) if self.over is _ANY or self.over == state else None


@dataclass
class History:
    """Operations per key, in real time of this process, and what each key held before. `shown` has when an answer first
    told of a value of the key."""

    initial: dict[str, State] = field(default_factory=dict)
    operations: dict[str, list[Operation]] = field(default_factory=lambda: defaultdict(list))
    acknowledged: int = 0
    unknown: int = 0
    shown: dict[str, dict[Hashable, float]] = field(default_factory=lambda: defaultdict(dict))
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

    def show(self, key: str, value: State) -> None:
        """An answer told of a value of the key."""
        with self.lock:
            self.shown[key].setdefault(value, time.monotonic())

    def narrowed(self, key: str, operations: list[Operation]) -> list[Operation]:
        """The operations with all that is known of those without an answer, lest the search try what can't be.

        Values are their writes' own. So one that was shown was written by then; those that never were are all the same.
        """
        writers = Counter(one.step.value for one in operations if isinstance(one.step, Write))
        found = []
        for one in operations:
            step = one.step
            if one.optional and isinstance(step, Write) and step.value is not ABSENT:
                shown = self.shown[key].get(step.value)
                if shown is None:
                    one = dataclasses.replace(one, step=dataclasses.replace(step, value=UNSEEN))
                elif writers[step.value] == 1 and self.initial.get(key, ABSENT) != step.value:
                    one = dataclasses.replace(one, end=shown, optional=False)
            found.append(one)
        return found

    def violations(self) -> list[str]:
        """Every key whose answers no order explains."""
        found = []
        for key, operations in sorted(self.operations.items()):
            verdict = check(self.narrowed(key, operations), self.initial.get(key, ABSENT))
            if verdict is not None:
                found.append(f"{key}: {verdict}")
        return found


class Door(Protocol):
    """Whatever gives clients."""

    def client(self, **options: Any) -> Any: ...


class Load(abc.ABC):
    """Threads of boto3 clients on a few keys; each does one action after the other until told to stop or cut off.

    A subclass says which actions there are and how often each is taken, and what an upload with `trickle` amounts to.
    """

    actions: ClassVar[dict[str, int]]  # name of a method (client, key, body, random) -> weight
    sizes: ClassVar[tuple[int, ...]] = SIZES
    may_refuse: ClassVar[bool] = False  # whether the server may say that it can't serve a request now

    def __init__(
        self, server: Door, history: History, *, seed: int, bucket: str, keys: int = 6, threads: int = 6
    ) -> None:
        self._history = history
        self._random = random.Random(seed)
        self._keys = [f"key/{number}" for number in range(keys)]
        self._stop = threading.Event()
        work = [self._work] * threads + [self._work_slowly] * SLOW
        self._threads = [
            threading.Thread(target=one, args=(self._random.getrandbits(60),), daemon=True) for one in work
        ]
        self._client = server.client()  # shared: boto3 clients are safe among threads, and cost 0.1 s each
        self.bucket = bucket
        self.unexpected: list[str] = []
        self.unavailable = 0  # answers with 503, where `may_refuse`
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
        while not self._stop.is_set():
            key = seeded.choice(self._keys)
            body = content(seeded.getrandbits(48), seeded.choice(self.sizes))
            action = seeded.choices(list(self.actions), weights=list(self.actions.values()))[0]
            try:
                getattr(self, action)(self._client, key, body, seeded)
            except Gone as gone:
                with self._history.lock:
                    self.cut_off += not isinstance(gone.__cause__, EndpointConnectionError | ConnectionRefusedError)
                return
            except ClientError as error:
                self.note_unexpected(f"{action} {key}", error)

    def _work_slowly(self, seed: int) -> None:
        seeded = random.Random(seed)
        while not self._stop.is_set():
            key = seeded.choice(self._keys)
            body = content(seeded.getrandbits(48), SIZES[-1])
            url = self._client.generate_presigned_url("put_object", {"Bucket": self.bucket, "Key": key})
            try:
                self.put_slowly(key, body, url)
            except Gone as gone:
                with self._history.lock:
                    self.cut_off += not isinstance(gone.__cause__, ConnectionRefusedError)
                return
            except ClientError as error:
                self.note_unexpected(f"slow put {key}", error)

    def note_unexpected(self, what: str, error: ClientError) -> None:
        """An answer that no action knows what to make of."""
        if self.may_refuse and error.response["ResponseMetadata"]["HTTPStatusCode"] == 503:
            with self._history.lock:
                self.unavailable += 1
        else:
            self.unexpected.append(f"{what}: {error}")

    @abc.abstractmethod
    def put_slowly(self, key: str, body: bytes, url: str) -> None:
        """Upload `body` to the presigned URL with `trickle`."""

    def run(
        self, key: str, name: str, step: Step, call: Callable[[], Any], answered: Callable[[Any], Step] | None = None
    ) -> Any:
        """Do `call` and record it: as done, or as maybe done when the connection broke. `answered` makes the step from
        the answer, where that tells more than is known without. ClientErrors propagate."""
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
            raise Gone from error
        ended = time.monotonic()
        self._history.add(key, Operation(name, start, answered(answer) if answered else step, ended))
        return answer

    def multipart(self, client: Any, key: str, body: bytes) -> tuple[str, list[dict[str, Any]]]:
        """Upload `body` as two parts, the second first; the upload's id and its parts, to be completed."""
        try:
            upload = client.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"]
            parts: list[dict[str, Any]] = []
            for part, piece in ((2, body[PART:]), (1, body[:PART])):
                done = client.upload_part(Bucket=self.bucket, Key=key, UploadId=upload, PartNumber=part, Body=piece)
                parts.insert(0, {"PartNumber": part, "ETag": done["ETag"]})
        except (BotoCoreError, OSError) as error:
            raise Gone from error
        return upload, parts


def expect(error: ClientError, *codes: str) -> str:
    """The error's code, if it is one of `codes`; else raises the error."""
    code: str = error.response["Error"]["Code"]
    if code not in codes:
        raise error
    return code


def trickle(url: str, body: bytes) -> dict[str, str]:
    """PUT `body` to a presigned URL, a little at a time; the answer's headers, named in lower case.

    Raises ClientError, OSError, HTTPException.
    """
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
    return {name.lower(): value for name, value in answer.getheaders()}


class Gone(Exception):
    """The server is dead; this thread's work ends."""
