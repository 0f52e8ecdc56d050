"""Sources that change, lie, break off, disappear, revoke and never end: nothing wrong is stored, and the operator is
told why."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from tests.harness.live_server import LiveServer
from tests.migrate.hostile import HostileSource, Thing, false_checksum, listing, refusal
from tests.migrate.migrating import begin, keys_of, migrate, report, rest, status, until

_MIB = 1 << 20


@pytest.fixture
def hostile() -> Iterator[HostileSource]:
    source = HostileSource().start()
    yield source
    source.stop()


def _read(client: Any, bucket: str, key: str) -> bytes:
    body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def _is_object(request: web.BaseRequest, key: str) -> bool:
    return request.path == f"/old/{key}" and "list-type" not in request.query


def test_an_etag_that_the_bytes_belie_fails_that_key_alone(
    hostile: HostileSource, target: LiveServer, new: Any, new_bucket: str
) -> None:
    hostile.things = {
        "good": Thing(b"good"),
        "lie": Thing(b"lie", etag="0" * 32),
        "sum": Thing(b"sum", headers=false_checksum(b"sum")),
        "parts": Thing(b"p" * 10, etag="0" * 32 + "-1"),
    }
    job = rest(target, begin(target, hostile.url, "old", new_bucket))
    assert job["state"] == "complete"
    told = report(target, job)
    assert {key: one["kind"] for key, one in told.items()} == {"lie": "failed", "sum": "failed", "parts": "failed"}
    assert "MD5" in told["lie"]["reason"]
    assert "SHA256" in told["sum"]["reason"]
    assert keys_of(new, new_bucket) == ["good"]
    assert job["notes"]["failed"] == 3
    # Once the source tells the truth, the next pass brings them.
    hostile.things = {key: Thing(thing.body) for key, thing in hostile.things.items()}
    migrate(target, "resume", job["id"], "--json")
    assert rest(target, job)["notes"]["failed"] == 0
    assert keys_of(new, new_bucket) == ["good", "lie", "parts", "sum"]


def test_etags_that_are_no_md5_are_told_as_unverified(
    hostile: HostileSource, target: LiveServer, new: Any, new_bucket: str
) -> None:
    hostile.things = {
        "opaque": Thing(b"one", etag="not-a-digest"),
        "kms": Thing(b"two", etag="1" * 32, headers={"x-amz-server-side-encryption": "aws:kms"}),
        "unknown parts": Thing(os.urandom(3 * _MIB), etag="2" * 32 + "-2"),
    }
    job = rest(target, begin(target, hostile.url, "old", new_bucket))
    assert job["state"] == "complete"
    assert {one["kind"] for one in report(target, job).values()} == {"unverified"}
    assert job["notes"]["unverified"] == 3
    for key, thing in hostile.things.items():
        assert _read(new, new_bucket, key) == thing.body


def test_bodies_that_break_off_are_taken_up_again_where_they_ended(
    hostile: HostileSource, target: LiveServer, new: Any, new_bucket: str
) -> None:
    thing = hostile.things["big"] = Thing(os.urandom(6 * _MIB))
    ranges: list[str] = []

    async def break_off(request: web.BaseRequest) -> web.StreamResponse | None:
        if not _is_object(request, "big") or request.method != "GET":
            return None
        ranges.append(request.headers.get("Range", ""))
        whole = HostileSource.give(request, thing)
        assert isinstance(whole.body, bytes)
        response = web.StreamResponse(status=whole.status, headers=whole.headers)
        response.content_length = len(whole.body)
        await response.prepare(request)
        await response.write(whole.body[: 2 * _MIB])
        if len(whole.body) > 2 * _MIB:
            assert request.transport is not None
            request.transport.close()
        return response

    hostile.before = break_off
    job = rest(target, begin(target, hostile.url, "old", new_bucket))
    assert job["state"] == "complete"
    assert report(target, job) == {}
    assert _read(new, new_bucket, "big") == thing.body
    assert ranges[0] == ""
    assert len(ranges) >= 3
    assert all(one.startswith("bytes=") for one in ranges[1:])


def test_an_object_replaced_between_list_and_get_is_copied_as_it_is_now(
    hostile: HostileSource, target: LiveServer, new: Any, new_bucket: str
) -> None:
    hostile.things["a"] = Thing(b"as listed")

    async def replace(request: web.BaseRequest) -> web.StreamResponse | None:
        if _is_object(request, "a"):
            hostile.things["a"] = Thing(b"replaced")
        return None

    hostile.before = replace
    job = rest(target, begin(target, hostile.url, "old", new_bucket))
    assert job["state"] == "complete"
    assert _read(new, new_bucket, "a") == b"replaced"


def test_an_object_replaced_in_the_middle_is_never_a_mixture(
    hostile: HostileSource, target: LiveServer, new: Any, new_bucket: str
) -> None:
    first, second = Thing(b"1" * (4 * _MIB)), Thing(b"2" * (4 * _MIB))
    hostile.things["a"] = first

    async def replace(request: web.BaseRequest) -> web.StreamResponse | None:
        if not _is_object(request, "a") or hostile.things["a"] is second:
            return None
        response = web.StreamResponse(headers={"ETag": f'"{first.etag}"'})
        response.content_length = len(first.body)
        await response.prepare(request)
        await response.write(first.body[:_MIB])
        hostile.things["a"] = second
        assert request.transport is not None
        request.transport.close()
        return response

    hostile.before = replace
    job = rest(target, begin(target, hostile.url, "old", new_bucket))
    assert job["state"] == "complete"
    assert _read(new, new_bucket, "a") == second.body


def test_an_object_that_vanishes_is_no_failure(
    hostile: HostileSource, target: LiveServer, new: Any, new_bucket: str
) -> None:
    hostile.things = {"a": Thing(b"a"), "b": Thing(b"b")}

    async def vanish(request: web.BaseRequest) -> web.StreamResponse | None:
        if _is_object(request, "b"):
            hostile.things.pop("b", None)
        return None

    hostile.before = vanish
    job = rest(target, begin(target, hostile.url, "old", new_bucket))
    assert (job["state"], job["tallies"]["vanished"]) == ("complete", 1)
    assert report(target, job) == {}
    assert keys_of(new, new_bucket) == ["a"]


def test_keys_revoked_midway_pause_the_job_and_new_keys_resume_it(
    hostile: HostileSource, target: LiveServer, new: Any, new_bucket: str
) -> None:
    hostile.things = {f"{number:03}": Thing(str(number).encode()) for number in range(40)}

    async def revoke(request: web.BaseRequest) -> web.StreamResponse | None:
        revoked = len(hostile.gets()) > 20 and "OTHERKEY" not in request.headers.get("Authorization", "")
        return refusal(403, "InvalidAccessKeyId") if revoked else None

    hostile.before = revoke
    job = rest(target, begin(target, hostile.url, "old", new_bucket))
    assert job["state"] == "paused"
    assert "InvalidAccessKeyId" in job["reason"]
    before = len(keys_of(new, new_bucket))
    assert 0 < before < 40
    secret = target.folder / "other.secret"
    secret.write_text("another/secret")
    migrate(target, "resume", job["id"], "--access-key-id", "OTHERKEY", "--secret-file", str(secret), "--json")
    assert rest(target, job)["state"] == "complete"
    assert keys_of(new, new_bucket) == sorted(hostile.things)


def test_one_key_that_is_denied_fails_alone(
    hostile: HostileSource, target: LiveServer, new: Any, new_bucket: str
) -> None:
    hostile.things = {"a": Thing(b"a"), "secret": Thing(b"b"), "z": Thing(b"z")}

    async def deny(request: web.BaseRequest) -> web.StreamResponse | None:
        return refusal(403, "AccessDenied") if _is_object(request, "secret") else None

    hostile.before = deny
    job = rest(target, begin(target, hostile.url, "old", new_bucket))
    assert job["state"] == "complete"
    assert {key: one["kind"] for key, one in report(target, job).items()} == {"secret": "failed"}
    assert keys_of(new, new_bucket) == ["a", "z"]


def test_a_source_that_disappears_pauses_the_job_and_resumes(
    hostile: HostileSource, target: LiveServer, new: Any, new_bucket: str
) -> None:
    hostile.things = {f"{number:03}": Thing(str(number).encode()) for number in range(40)}
    gone = [False]

    async def disappear(request: web.BaseRequest) -> web.StreamResponse | None:
        gone[0] = gone[0] or len(hostile.gets()) > 20
        if gone[0]:
            assert request.transport is not None
            request.transport.close()
        return refusal(503, "SlowDown") if gone[0] else None

    hostile.before = disappear
    job = rest(target, begin(target, hostile.url, "old", new_bucket, "--patience", "2"))
    assert job["state"] == "paused"
    assert "does not answer" in job["reason"]
    hostile.before = None
    migrate(target, "resume", job["id"], "--json")
    assert rest(target, job)["state"] == "complete"
    assert keys_of(new, new_bucket) == sorted(hostile.things)


def test_errors_that_pass_are_waited_for(hostile: HostileSource, target: LiveServer, new: Any, new_bucket: str) -> None:
    hostile.things = {f"{number:02}": Thing(str(number).encode()) for number in range(20)}
    count = itertools.count()

    async def stumble(_: web.BaseRequest) -> web.StreamResponse | None:
        return refusal(503, "SlowDown") if next(count) % 3 == 1 else None

    hostile.before = stumble
    job = rest(target, begin(target, hostile.url, "old", new_bucket))
    assert job["state"] == "complete"
    assert report(target, job) == {}
    assert len(keys_of(new, new_bucket)) == 20


def test_redirects_are_not_followed(hostile: HostileSource, target: LiveServer, new_bucket: str) -> None:
    hostile.things["a"] = Thing(b"a")

    async def redirect(request: web.BaseRequest) -> web.StreamResponse | None:
        if not _is_object(request, "a"):
            return None
        return web.Response(status=307, headers={"Location": f"{hostile.url}/old/a?round=1"})

    hostile.before = redirect
    job = rest(target, begin(target, hostile.url, "old", new_bucket))
    assert job["state"] == "paused"
    assert "redirects" in job["reason"]
    assert not any("round" in one for one in hostile.requests)


@pytest.mark.parametrize("fresh_tokens", [False, True])
def test_a_listing_in_circles_pauses_the_job(
    hostile: HostileSource, target: LiveServer, new_bucket: str, fresh_tokens: bool
) -> None:
    pages = itertools.count()
    things = {f"{number}": Thing(b"x") for number in range(6)}
    hostile.things = things

    async def circle(request: web.BaseRequest) -> web.StreamResponse | None:
        if "list-type" not in request.query or request.query.get("max-keys") == "1":
            return None
        number = next(pages)
        keys = [f"{number % 3 * 2}", f"{number % 3 * 2 + 1}"]
        return listing([(key, things[key]) for key in keys], token=f"t{number if fresh_tokens else number % 3}")

    hostile.before = circle
    job = rest(target, begin(target, hostile.url, "old", new_bucket))
    assert job["state"] == "paused"
    assert "circles" in job["reason"]
    assert next(pages) < 20


def test_a_listing_without_keys_that_never_ends_pauses_the_job(
    hostile: HostileSource, target: LiveServer, new_bucket: str
) -> None:
    pages = itertools.count()

    async def nothing(request: web.BaseRequest) -> web.StreamResponse | None:
        return listing([], token=f"t{next(pages)}") if request.query.get("max-keys") == "1000" else None

    hostile.before = nothing
    job = rest(target, begin(target, hostile.url, "old", new_bucket))
    assert job["state"] == "paused"
    assert "without keys" in job["reason"]


@pytest.mark.parametrize(
    "document",
    [
        "<nonsense",
        "<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
        "x" * 100,
        "",
        "<html><body>Welcome</body></html>",
    ],
)
def test_a_listing_that_is_none_pauses_the_job(
    hostile: HostileSource, target: LiveServer, new_bucket: str, document: str
) -> None:
    async def nonsense(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(text=document) if request.query.get("max-keys") == "1000" else None

    hostile.before = nonsense
    job = rest(target, begin(target, hostile.url, "old", new_bucket))
    assert job["state"] == "paused"
    assert job["reason"]


def test_keys_over_our_limits_are_told_and_the_rest_comes(
    hostile: HostileSource, target: LiveServer, new: Any, new_bucket: str
) -> None:
    long, wide = "k" * 1025, "ü" * 3000
    dressed = Thing(b"x", headers={"x-amz-meta-big": "m" * 3000})
    hostile.things = {"a": Thing(b"a"), long: Thing(b"x"), wide: Thing(b"x"), "dressed": dressed}
    job = rest(target, begin(target, hostile.url, "old", new_bucket))
    assert job["state"] == "complete"
    told = report(target, job)
    assert set(told) == {long, wide, "dressed"}
    assert "1025 bytes" in told[long]["reason"]
    assert "MetadataTooLarge" in told["dressed"]["reason"]
    assert keys_of(new, new_bucket) == ["a"]


def test_a_source_that_can_not_be_listed_is_refused_at_once(
    hostile: HostileSource, target: LiveServer, new_bucket: str
) -> None:
    async def refuse(_: web.BaseRequest) -> web.StreamResponse | None:
        return refusal(404, "NoSuchBucket")

    hostile.before = refuse
    for endpoint in (hostile.url, "ftp://127.0.0.1/", "http://user@127.0.0.1/", "nothing"):
        done = target.command("migrate", "start", endpoint, "old", new_bucket, "--json")
        assert done.returncode == 1
        assert "source" in done.stderr
    done = target.command("migrate", "start", hostile.url, "old", "no-such-bucket-here")
    assert done.returncode == 1


def test_secrets_are_never_shown(hostile: HostileSource, target: LiveServer, new_bucket: str) -> None:
    hostile.things["a"] = Thing(b"a")
    secret = target.folder / "telling.secret"
    secret.write_text("very/telling/secret\ntelling-session-token\n")
    job = migrate(
        target, "start", hostile.url, "old", new_bucket,
        "--access-key-id", "SOMEKEY", "--secret-file", str(secret), "--json",
    )  # fmt: skip
    rest(target, job)
    shown = [target.command("migrate", *words).stdout for words in (("list", "--json"), ("status", job["id"]))]
    shown += [target.command("status", "--json").stdout, "".join(target.output)]
    assert not any("telling" in text for text in shown)
    assert "very/telling" not in (target.data / "catalog").joinpath("data.mdb").read_bytes().decode("latin-1")


def test_pause_stops_and_resume_goes_on(hostile: HostileSource, target: LiveServer, new: Any, new_bucket: str) -> None:
    hostile.things = {f"{number:03}": Thing(os.urandom(10_000)) for number in range(60)}
    job = begin(target, hostile.url, "old", new_bucket, "--bandwidth", "100000", "--concurrency", "2")
    until(lambda: status(target, job)["tallies"].get("copied", 0) > 5)
    migrate(target, "pause", job["id"], "--json")
    until(lambda: len(hostile.requests) == _after_a_second(hostile))
    here = len(keys_of(new, new_bucket))
    assert 0 < here < 60
    migrate(target, "resume", job["id"], "--json")
    assert rest(target, job)["state"] == "complete"
    assert keys_of(new, new_bucket) == sorted(hostile.things)


def _after_a_second(hostile: HostileSource) -> int:
    time.sleep(1.0)
    return len(hostile.requests)
