"""PutBucketVersioning and GetBucketVersioning, and what versions do to objects."""

from __future__ import annotations

from typing import Any

import pytest

from tests.s3.expecting import refused


def _set(client: Any, bucket: str, status: str, **more: Any) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status, **more})


def test_states(main: Any, bucket: str) -> None:
    assert "Status" not in main.get_bucket_versioning(Bucket=bucket)
    _set(main, bucket, "Enabled")
    assert main.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    _set(main, bucket, "Suspended")
    assert main.get_bucket_versioning(Bucket=bucket)["Status"] == "Suspended"


def test_wrong_configurations(main: Any, bucket: str) -> None:
    with refused("MalformedXML", 400):
        _set(main, bucket, "Sometimes")
    with refused("IllegalVersioningConfigurationException", 400):
        main.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={})
    with refused("NotImplemented", 501):
        _set(main, bucket, "Enabled", MFADelete="Enabled")
    assert "Status" not in main.get_bucket_versioning(Bucket=bucket)


def test_only_the_owner(alt: Any, bucket: str) -> None:
    with refused("AccessDenied", 403):
        alt.get_bucket_versioning(Bucket=bucket)
    with refused("AccessDenied", 403):
        _set(alt, bucket, "Enabled")


def test_each_version_is_read_by_its_id(main: Any, versioned: str) -> None:
    ids = [main.put_object(Bucket=versioned, Key="key", Body=body)["VersionId"] for body in (b"one", b"two")]
    assert len(set(ids)) == 2
    for version, body in zip(ids, (b"one", b"two"), strict=True):
        answer = main.get_object(Bucket=versioned, Key="key", VersionId=version)
        assert (answer["Body"].read(), answer["VersionId"]) == (body, version)
    assert main.get_object(Bucket=versioned, Key="key")["Body"].read() == b"two"


def test_delete_puts_a_marker_and_its_removal_brings_the_object_back(main: Any, versioned: str) -> None:
    main.put_object(Bucket=versioned, Key="key", Body=b"body")
    marker = main.delete_object(Bucket=versioned, Key="key")
    assert marker["DeleteMarker"] is True
    with refused("NoSuchKey", 404) as answers:
        main.get_object(Bucket=versioned, Key="key")
    headers = answers[0]["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amz-delete-marker"] == "true"
    assert headers["x-amz-version-id"] == marker["VersionId"]
    with refused("MethodNotAllowed", 405) as answers:
        main.get_object(Bucket=versioned, Key="key", VersionId=marker["VersionId"])
    headers = answers[0]["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amz-delete-marker"] == "true"
    assert "DELETE" in headers["allow"]
    with refused("405", 405):
        main.head_object(Bucket=versioned, Key="key", VersionId=marker["VersionId"])
    gone = main.delete_object(Bucket=versioned, Key="key", VersionId=marker["VersionId"])
    assert (gone["DeleteMarker"], gone["VersionId"]) == (True, marker["VersionId"])
    assert main.get_object(Bucket=versioned, Key="key")["Body"].read() == b"body"


def test_deleting_a_version_leaves_the_one_before(main: Any, versioned: str) -> None:
    first, second = (main.put_object(Bucket=versioned, Key="key", Body=b)["VersionId"] for b in (b"1", b"2"))
    gone = main.delete_object(Bucket=versioned, Key="key", VersionId=second)
    assert gone["VersionId"] == second
    assert "DeleteMarker" not in gone
    answer = main.get_object(Bucket=versioned, Key="key")
    assert (answer["VersionId"], answer["Body"].read()) == (first, b"1")


def test_null_versions_of_a_suspended_bucket(main: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=b"before")
    _set(main, bucket, "Enabled")
    kept = main.put_object(Bucket=bucket, Key="key", Body=b"kept")["VersionId"]
    assert main.get_object(Bucket=bucket, Key="key", VersionId="null")["Body"].read() == b"before"
    _set(main, bucket, "Suspended")
    assert "VersionId" not in main.put_object(Bucket=bucket, Key="key", Body=b"after")
    assert main.head_object(Bucket=bucket, Key="key")["VersionId"] == "null"
    assert main.get_object(Bucket=bucket, Key="key", VersionId="null")["Body"].read() == b"after"
    marker = main.delete_object(Bucket=bucket, Key="key")
    assert (marker["DeleteMarker"], marker["VersionId"]) == (True, "null")
    listed = main.list_object_versions(Bucket=bucket)
    assert [one["VersionId"] for one in listed["Versions"]] == [kept]
    assert [one["VersionId"] for one in listed["DeleteMarkers"]] == ["null"]


@pytest.mark.parametrize("version", ["nonsense", "0" * 31, "Z" * 32])
def test_malformed_version_ids(main: Any, versioned: str, version: str) -> None:
    main.put_object(Bucket=versioned, Key="key", Body=b"x")
    with refused("InvalidArgument", 400):
        main.get_object(Bucket=versioned, Key="key", VersionId=version)
    with refused("InvalidArgument", 400):
        main.delete_object(Bucket=versioned, Key="key", VersionId=version)


def test_unknown_version_id(main: Any, versioned: str) -> None:
    main.put_object(Bucket=versioned, Key="key", Body=b"x")
    with refused("NoSuchVersion", 404):
        main.get_object(Bucket=versioned, Key="key", VersionId="0" * 32)
    main.delete_object(Bucket=versioned, Key="key", VersionId="0" * 32)
    assert main.get_object(Bucket=versioned, Key="key")["Body"].read() == b"x"
