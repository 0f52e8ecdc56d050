"""DeleteObject and DeleteObjects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.harness.live_server import LiveServer
from tests.s3.expecting import keys, refused, signed_request


def test_delete_of_what_is_there_and_of_what_is_not(main: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=b"x")
    for _ in range(2):
        answer = main.delete_object(Bucket=bucket, Key="key")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert "DeleteMarker" not in answer
    with refused("NoSuchKey", 404):
        main.get_object(Bucket=bucket, Key="key")


def test_delete_on_a_condition(main: Any, bucket: str) -> None:
    etag = main.put_object(Bucket=bucket, Key="key", Body=b"x")["ETag"]
    with refused("PreconditionFailed", 412):
        main.delete_object(Bucket=bucket, Key="key", IfMatch='"other"')
    main.delete_object(Bucket=bucket, Key="key", IfMatch=etag)
    with refused("NoSuchKey", 404):
        main.delete_object(Bucket=bucket, Key="key", IfMatch=etag)


def test_delete_is_refused_to_others(main: Any, alt: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=b"x")
    with refused("AccessDenied", 403):
        alt.delete_object(Bucket=bucket, Key="key")
    with refused("NoSuchBucket", 404):
        main.delete_object(Bucket="missing-bucket-name", Key="key")
    assert keys(main.list_objects_v2(Bucket=bucket)) == ["key"]


def test_many_at_once(main: Any, bucket: str) -> None:
    names = [f"key-{number}" for number in range(5)]
    for name in names:
        main.put_object(Bucket=bucket, Key=name, Body=b"x")
    answer = main.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": name} for name in [*names[:4], "never-there"]]}
    )
    assert [one["Key"] for one in answer["Deleted"]] == [*names[:4], "never-there"]
    assert "Errors" not in answer
    assert keys(main.list_objects_v2(Bucket=bucket)) == ["key-4"]


def test_quiet_tells_errors_only(main: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=b"x")
    answer = main.delete_objects(
        Bucket=bucket,
        Delete={"Quiet": True, "Objects": [{"Key": "key"}, {"Key": "other", "VersionId": "not-an-id"}]},
    )
    assert "Deleted" not in answer
    assert [(one["Key"], one["Code"]) for one in answer["Errors"]] == [("other", "InvalidArgument")]
    assert main.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_versions_and_markers(main: Any, versioned: str) -> None:
    version = main.put_object(Bucket=versioned, Key="key", Body=b"x")["VersionId"]
    made = main.delete_objects(Bucket=versioned, Delete={"Objects": [{"Key": "key"}]})["Deleted"][0]
    assert made["DeleteMarker"] is True
    gone = main.delete_objects(
        Bucket=versioned,
        Delete={
            "Objects": [
                {"Key": "key", "VersionId": version},
                {"Key": "key", "VersionId": made["DeleteMarkerVersionId"]},
            ]
        },
    )["Deleted"]
    assert gone[0] == {"Key": "key", "VersionId": version}
    assert gone[1]["DeleteMarkerVersionId"] == made["DeleteMarkerVersionId"]
    assert "Versions" not in main.list_object_versions(Bucket=versioned)


def test_conditions_of_single_items(main: Any, bucket: str) -> None:
    etags = {name: main.put_object(Bucket=bucket, Key=name, Body=name.encode())["ETag"] for name in ("a", "b")}
    answer = main.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": "a", "ETag": etags["a"]}, {"Key": "b", "ETag": etags["a"]}]}
    )
    assert [one["Key"] for one in answer["Deleted"]] == ["a"]
    assert [(one["Key"], one["Code"]) for one in answer["Errors"]] == [("b", "PreconditionFailed")]


def test_limits_and_malformed_lists(main: Any, server: LiveServer, bucket: str) -> None:
    with refused("MalformedXML", 400):
        main.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": str(n)} for n in range(1001)]})
    with refused("MalformedXML", 400):
        main.delete_objects(Bucket=bucket, Delete={"Objects": []})
    answer = main.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": str(n)} for n in range(1000)]})
    assert len(answer["Deleted"]) == 1000


def test_each_key_is_judged_for_the_caller(
    main: Any, alt: Any, anonymous: Any, server: LiveServer, bucket: str, new_bucket: Callable[..., str]
) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=b"x")
    answer = alt.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "key"}]})
    assert [one["Code"] for one in answer["Errors"]] == ["AccessDenied"]
    with refused("AccessDenied", 403):
        anonymous.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "key"}]})
    assert keys(main.list_objects_v2(Bucket=bucket)) == ["key"]
    shared = new_bucket(ACL="public-read-write")
    main.put_object(Bucket=shared, Key="key", Body=b"x")
    anonymous.delete_objects(Bucket=shared, Delete={"Objects": [{"Key": "key"}]})
    assert main.list_objects_v2(Bucket=shared)["KeyCount"] == 0


def test_body_that_is_no_delete_list(server: LiveServer, bucket: str) -> None:
    for body in (b"<Delete><Object>", b"<Delete><Object><Key>a</Key></Object></Delete>x", b"<Other/>", b"{}"):
        answer = signed_request("POST", f"{server.url}/{bucket}?delete", body=body)
        assert answer.status == 400
        assert b"<Code>MalformedXML</Code>" in answer.body
