"""Mixed load on a bucket with versioning, and what it must look like afterwards.

A key's state is its versions, newest first, each an id and a value (None for a delete marker). A write that was never
answered may have made a version; if it did, its id is shown by whatever sees the key next, at the latest by the listing
at the end. So a history is checked with the versions that strange ids tell of in the place of such writes.
"""

from __future__ import annotations

import dataclasses
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias
from urllib.parse import unquote
from xml.etree import ElementTree

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.harness.linearizability import Applied, Operation, State, Step
from tests.harness.load import PART, SIZES, Door, Gone, History, Load, content, expect, tag, trickle

#: A version: its id, and its value or None for a delete marker.
Entry: TypeAlias = tuple[str, str | None]
#: Versions of a key, newest first.
Entries: TypeAlias = tuple[Entry, ...]

_XML = "{http://s3.amazonaws.com/doc/2006-03-01/}"
#: The id of a version that no answer told.
UNTOLD = ""


def _entries(state: State) -> Entries:
    assert state is None or isinstance(state, tuple)
    return state or ()


def _value(entries: Entries) -> str | None:
    return entries[0][1] if entries else None


def _always(_: Entries) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Push:
    """A write, answered where the versions before it fit."""

    entry: Entry
    fits: Callable[[Entries], bool] = _always

    def __call__(self, state: State) -> Applied | None:
        before = _entries(state)
        return Applied((self.entry, *before)) if self.fits(before) else None


@dataclass(frozen=True, slots=True)
class Remove:
    """The deletion of one version for good. Of one that isn't there, too."""

    version: str

    def __call__(self, state: State) -> Applied | None:
        return Applied(tuple(entry for entry in _entries(state) if entry[0] != self.version))


def lacks(version: str) -> Step:
    return lambda state: None if version in dict(_entries(state)) else Applied(state)


def fits(condition: Callable[[Entries], bool]) -> Step:
    """Something seen of the key without a version's id."""
    return lambda state: Applied(state) if condition(_entries(state)) else None


class Versions(History):
    """A history of versioned keys. `known` has the versions of each key whose ids were shown and that nobody was seen
    to delete; `told` the ids that came as the answer to the write that made them; `left` what was listed in the end.
    `shown` has when an answer first showed a version of the key."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, dict[str, str | None]] = {}
        self.told: set[str] = set()
        self.values: dict[str, str | None] = {}
        self.left: dict[str, Entries] = defaultdict(tuple)

    def learn(self, key: str, entry: Entry, *, told: bool = False) -> None:
        """An answer showed a version. Raises AssertionError where another one showed it differently."""
        version, value = entry
        with self.lock:
            assert self.values.setdefault(version, value) == value, f"{key} {version}: {value}"
            self.known.setdefault(key, {})[version] = value
            self.shown[key].setdefault(entry, time.monotonic())
            if told:
                self.told.add(version)

    def forget(self, key: str, version: str) -> None:
        """Somebody is about to delete a version."""
        with self.lock:
            self.known[key].pop(version, None)

    def choose(self, key: str, seeded: Any, *, objects: bool = False) -> Entry | None:
        """One of the known versions of a key."""
        with self.lock:
            found = [entry for entry in self.known.get(key, {}).items() if not objects or entry[1] is not None]
        return seeded.choice(found) if found else None

    def end(self, key: str, entries: Entries, start: float, end: float) -> None:
        """All versions of the key were listed, newest first, after everything else."""
        for entry in entries:
            self.learn(key, entry)
        self.left[key] = entries
        step = fits(lambda state: state == entries)
        self.add(key, Operation(f"list {entries}", start, step, end))

    def narrowed(self, key: str, operations: list[Operation]) -> list[Operation]:
        """The operations with all that is known in the end, lest the search try what can't be.

        Of writes without an answer only those count whose versions were shown, and by then; of deletions of a version
        those whose version is gone. Versions that are left were made in the order in which they lie.
        """
        left = self.left[key]
        kept = dict(left)
        beneath = dict(zip(left, (*left[1:], None), strict=False))
        lost: dict[str | None, list[Operation]] = {}  # writes without an answer, by value
        found = []
        for one in operations:
            if one.optional and isinstance(one.step, Push):
                lost.setdefault(one.step.entry[1], []).append(one)
            elif one.optional and isinstance(one.step, Remove):
                if one.step.version not in kept:
                    found.append(dataclasses.replace(one, optional=False))
            else:
                found.append(one)
        found += self._made(key, lost)
        for place, one in enumerate(found):
            if isinstance(one.step, Push) and one.step.entry in beneath:
                found[place] = dataclasses.replace(one, step=_upon(one.step, beneath))
        return found

    def _made(self, key: str, lost: dict[str | None, list[Operation]]) -> list[Operation]:
        """What must have happened of writes without an answer. Where several had the same value it isn't known which of
        them made a version, but none made two."""
        before = _entries(self.initial.get(key))
        shown = {entry: at for entry, at in self.shown[key].items() if isinstance(entry, tuple)}
        found = []
        for value, writes in lost.items():
            made = [entry for entry in shown if entry[1] == value and entry[0] not in self.told and entry not in before]
            start, either = min(one.start for one in writes), _any([one.step for one in writes])
            for entry in sorted(made, key=shown.__getitem__)[: len(writes)]:
                found.append(Operation(f"{writes[0].name}: {entry[0]}", start, Push(entry, either), shown[entry]))
        return found

    def sees_latest(self, seen: Entry | None) -> Step:
        """The latest version was seen, or that there is none."""
        return fits(lambda entries: entries[:1] == ((seen,) if seen else ()))

    def sees(self, seen: Entry) -> Step:
        """A version was seen by its id, which an answer had shown before."""
        return fits(lambda entries: seen in entries)


def _any(steps: Sequence[Step]) -> Callable[[Entries], bool]:
    return lambda entries: any(step(entries) for step in steps)


def _upon(step: Push, beneath: Mapping[Entry, Entry | None]) -> Push:
    """Of a version that is left: it was put upon the one `beneath` it, whatever else was there that isn't left."""

    def fits(state: Entries) -> bool:
        uppermost = next((entry for entry in state if entry in beneath), None)
        return uppermost == beneath[step.entry] and step.fits(state)

    return dataclasses.replace(step, fits=fits)


class VersionedLoad(Load):
    """Load on a bucket with versioning."""

    actions: ClassVar[dict[str, int]] = {
        "put": 6,
        "create": 3,
        "update": 3,
        "complete": 2,
        "copy": 3,
        "mark": 3,
        "mark_seen": 2,
        "remove": 12,
        "get": 5,
        "get_version": 5,
    }
    sizes: ClassVar[tuple[int, ...]] = SIZES[1:]  # two empty values could not be told apart

    _history: Versions

    def write(
        self,
        key: str,
        name: str,
        value: str | None,
        call: Callable[[], Mapping[str, Any]],
        version_id: str = "VersionId",
        fits: Callable[[Entries], bool] = _always,
    ) -> Entry | None:
        """A call that puts `value` on top of the key; the version that its answer names, or None without an answer."""
        answer = self.run(
            key, f"{name} {value}", Push((UNTOLD, value), fits), call,
            lambda answer: Push((answer[version_id], value), fits),
        )  # fmt: skip
        if answer is None:
            return None
        entry = (answer[version_id], value)
        self._history.learn(key, entry, told=True)
        return entry

    def note(self, key: str, name: str, start: float, step: Step) -> None:
        self._history.add(key, Operation(name, start, step, time.monotonic()))

    def put_slowly(self, key: str, body: bytes, url: str) -> None:
        self.write(key, "slow put", tag(body), lambda: trickle(url, body), "x-amz-version-id")

    def put(self, client: Any, key: str, body: bytes, _: Any) -> Entry | None:
        return self.write(
            key, "put", tag(body), lambda: client.put_object(Bucket=self.bucket, Key=key, Body=body)
        )  # fmt: skip

    def create(self, client: Any, key: str, body: bytes, _: Any) -> None:
        start = time.monotonic()
        try:
            self.write(
                key, "create", tag(body),
                lambda: client.put_object(Bucket=self.bucket, Key=key, Body=body, IfNoneMatch="*"),
                fits=lambda entries: _value(entries) is None,
            )  # fmt: skip
        except ClientError as error:
            if expect(error, "PreconditionFailed", "ConditionalRequestConflict") == "PreconditionFailed":
                self.note(key, "create refused", start, fits(lambda entries: _value(entries) is not None))

    def _if_seen(self, key: str, seen: str, name: str, value: str | None, call: Callable[[], Any]) -> None:
        """A write that wants `seen` to be the latest value."""
        start = time.monotonic()
        try:
            self.write(key, f"{name} of {seen}", value, call, fits=lambda entries: _value(entries) == seen)
        except ClientError as error:
            code = expect(error, "PreconditionFailed", "NoSuchKey", "ConditionalRequestConflict")
            if code != "ConditionalRequestConflict":
                self.note(key, f"{name} of {seen} refused", start, fits(lambda entries: _value(entries) != seen))

    def update(self, client: Any, key: str, body: bytes, seeded: Any) -> None:
        current = self.get(client, key, body, seeded)
        if current is not None:
            etag, seen = current
            self._if_seen(
                key, seen, "update", tag(body),
                lambda: client.put_object(Bucket=self.bucket, Key=key, Body=body, IfMatch=etag),
            )  # fmt: skip

    def mark_seen(self, client: Any, key: str, body: bytes, seeded: Any) -> None:
        """Put a delete marker on what was just seen, and on nothing else."""
        current = self.get(client, key, body, seeded)
        if current is not None:
            etag, seen = current
            self._if_seen(
                key, seen, "delete", None,
                lambda: client.delete_object(Bucket=self.bucket, Key=key, IfMatch=etag),
            )  # fmt: skip

    def mark(self, client: Any, key: str, _: bytes, __: Any) -> None:
        self.write(key, "delete", None, lambda: client.delete_object(Bucket=self.bucket, Key=key))

    def complete(self, client: Any, key: str, _: bytes, seeded: Any) -> None:
        body = content(seeded.getrandbits(48), PART + 1000)
        upload, parts = self.multipart(client, key, body)
        self.write(
            key, "multipart", tag(body),
            lambda: client.complete_multipart_upload(
                Bucket=self.bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
            ),
        )  # fmt: skip

    def copy(self, client: Any, key: str, _: bytes, seeded: Any) -> None:
        """Copy a version that was shown, of any key. Somebody may delete it meanwhile."""
        source = seeded.choice(self._keys)
        chosen = self._history.choose(source, seeded, objects=True)
        if chosen is None:
            return
        start = time.monotonic()
        origin = {"Bucket": self.bucket, "Key": source, "VersionId": chosen[0]}
        try:
            self.write(
                key, "copy", chosen[1], lambda: client.copy_object(Bucket=self.bucket, Key=key, CopySource=origin)
            )  # fmt: skip
        except ClientError as error:
            expect(error, "NoSuchVersion", "NoSuchKey")
            self.note(source, f"nothing to copy {chosen[0]}", start, lacks(chosen[0]))

    def remove(self, client: Any, key: str, _: bytes, seeded: Any) -> None:
        """Delete a version or a marker for good."""
        chosen = self._history.choose(key, seeded)
        if chosen is None:
            return
        self._history.forget(key, chosen[0])
        self.run(
            key, f"delete of version {chosen}", Remove(chosen[0]),
            lambda: client.delete_object(Bucket=self.bucket, Key=key, VersionId=chosen[0]),
        )  # fmt: skip

    def get(self, client: Any, key: str, _: bytes, __: Any) -> tuple[str, str] | None:
        return read_latest(client, self.bucket, key, self._history)

    def get_version(self, client: Any, key: str, _: bytes, seeded: Any) -> None:
        chosen = self._history.choose(key, seeded)
        if chosen is not None:
            read_version(client, self.bucket, key, chosen, self._history)


def read_latest(client: Any, bucket: str, key: str, history: Versions) -> tuple[str, str] | None:
    """GET a key and record what was seen; its ETag and value, or None when it has none."""
    start = time.monotonic()
    try:
        answer = client.get_object(Bucket=bucket, Key=key)
        value = tag(answer["Body"].read())
    except ClientError as error:
        expect(error, "NoSuchKey")
        marker = error.response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-version-id")
        seen = (marker, None) if marker else None
        if seen:
            history.learn(key, seen)
        history.add(key, Operation(f"get: {seen}", start, history.sees_latest(seen), time.monotonic()))
        return None
    except (BotoCoreError, OSError) as error:
        raise Gone from error
    found = (answer["VersionId"], value)
    history.learn(key, found)
    history.add(key, Operation(f"get: {found}", start, history.sees_latest(found), time.monotonic()))
    return answer["ETag"], value


def read_version(client: Any, bucket: str, key: str, version: Entry, history: Versions) -> None:
    """GET a version by its id and record what was seen. Raises AssertionError for other bytes than those it had."""
    start = time.monotonic()
    try:
        answer = client.get_object(Bucket=bucket, Key=key, VersionId=version[0])
        value = tag(answer["Body"].read())
        assert value == version[1], f"{key} {version}: {value}"
    except ClientError as error:
        if expect(error, "NoSuchVersion", "MethodNotAllowed") == "NoSuchVersion":
            gone = Operation(f"get of version {version}: gone", start, lacks(version[0]), time.monotonic())
            history.add(key, gone)
            return
        assert version[1] is None, f"{key} {version}: a delete marker"
    except (BotoCoreError, OSError) as error:
        raise Gone from error
    history.add(key, Operation(f"get of version {version}", start, history.sees(version), time.monotonic()))


def listed_versions(server: Door, bucket: str) -> dict[str, Entries]:
    """Every version of every key, newest first, its value read by its id. The listing is taken as XML: boto3 parts
    versions from delete markers and so loses their order."""
    client = server.client(config=Config(signature_version="s3v4"))
    found: dict[str, Entries] = {}
    after: dict[str, str] = {}
    while True:
        url = client.generate_presigned_url("list_object_versions", {"Bucket": bucket, **after})
        with urllib.request.urlopen(url, timeout=60) as answer:
            page = ElementTree.fromstring(answer.read())
        for row in page:
            kind = row.tag.removeprefix(_XML)
            if kind in ("Version", "DeleteMarker"):
                key, version = unquote(row.findtext(f"{_XML}Key", "")), row.findtext(f"{_XML}VersionId", "")
                value = None
                if kind == "Version":
                    value = tag(client.get_object(Bucket=bucket, Key=key, VersionId=version)["Body"].read())
                entries = found.get(key, ())
                assert row.findtext(f"{_XML}IsLatest") == ("false" if entries else "true"), f"{key} {version}"
                found[key] = (*entries, (version, value))
        if page.findtext(f"{_XML}IsTruncated") != "true":
            return found
        after = {
            "KeyMarker": page.findtext(f"{_XML}NextKeyMarker", ""),
            "VersionIdMarker": page.findtext(f"{_XML}NextVersionIdMarker", ""),
        }


def settle_versions(server: Door, bucket: str, history: Versions) -> Versions:
    """Look at every version of every key, so that the history ends with what is really there; the history that goes on
    from it. Raises AssertionError if no order of the operations explains the answers."""
    client = server.client()
    start = time.monotonic()
    there = listed_versions(server, bucket)
    for key in sorted({*history.operations, *history.initial, *there}):
        history.end(key, there.get(key, ()), start, time.monotonic())
        read_latest(client, bucket, key, history)
    violations = history.violations()
    assert not violations, "\n".join(violations)
    following = Versions()
    following.acknowledged, following.unknown = history.acknowledged, history.unknown
    following.initial = dict(there)
    following.known = {key: dict(entries) for key, entries in there.items()}
    following.values = dict(history.values)
    following.told = history.told
    return following
