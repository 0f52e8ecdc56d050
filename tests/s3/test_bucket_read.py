"""HeadBucket, ListBuckets, GetBucketLocation, DeleteBucket."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from tests.s3.expecting import ALT_ID, MAIN_ID, refused


def test_head_tells_the_region(main: Any, root: Any, bucket: str) -> None:
    assert main.head_bucket(Bucket=bucket)["BucketRegion"] == "us-east-1"
    assert root.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_head_of_missing_and_foreign_buckets(main: Any, alt: Any, anonymous: Any, bucket: str) -> None:
    with refused("404", 404):
        main.head_bucket(Bucket=f"missing-{secrets.token_hex(6)}")
    with refused("403", 403):
        alt.head_bucket(Bucket=bucket)
    with refused("403", 403):
        anonymous.head_bucket(Bucket=bucket)


def test_expected_owner_is_honoured(main: Any, bucket: str) -> None:
    main.head_bucket(Bucket=bucket, ExpectedBucketOwner=MAIN_ID)
    with refused("403", 403):
        main.head_bucket(Bucket=bucket, ExpectedBucketOwner=ALT_ID)
    with refused("AccessDenied", 403):
        main.put_object(Bucket=bucket, Key="key", Body=b"", ExpectedBucketOwner=ALT_ID)


def test_location_is_empty_in_the_first_region(main: Any, alt: Any, bucket: str) -> None:
    assert main.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    with refused("AccessDenied", 403):
        alt.get_bucket_location(Bucket=bucket)
    with refused("NoSuchBucket", 404):
        main.get_bucket_location(Bucket="missing-bucket-name")


def test_list_is_of_own_buckets_and_roots_is_of_all(main: Any, alt: Any, root: Any, bucket: str) -> None:
    answer = main.list_buckets()
    assert answer["Owner"] == {"DisplayName": "Main User", "ID": MAIN_ID}
    assert bucket in [one["Name"] for one in answer["Buckets"]]
    assert bucket not in [one["Name"] for one in alt.list_buckets()["Buckets"]]
    assert bucket in [one["Name"] for one in root.list_buckets()["Buckets"]]


def test_list_by_prefix_and_pages(main: Any) -> None:
    prefix = f"page-{secrets.token_hex(6)}-"
    names = [f"{prefix}{number}" for number in range(5)]
    for name in names:
        main.create_bucket(Bucket=name)
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = main.list_buckets(Prefix=prefix, MaxBuckets=2, **token)
        assert page["Prefix"] == prefix
        assert len(page["Buckets"]) <= 2
        found += [one["Name"] for one in page["Buckets"]]
        if "ContinuationToken" not in page:
            break
        token = {"ContinuationToken": page["ContinuationToken"]}
    assert found == names


def test_list_refuses_bad_limits_tokens_and_nobody(main: Any, anonymous: Any) -> None:
    with refused("InvalidArgument", 400):
        main.list_buckets(MaxBuckets=0)
    with refused("InvalidArgument", 400):
        main.list_buckets(ContinuationToken="no token of ours")
    with refused("AccessDenied", 403):
        anonymous.list_buckets()


def test_list_of_another_region_is_empty(main: Any, bucket: str) -> None:
    assert main.list_buckets(BucketRegion="eu-west-1")["Buckets"] == []
    names = [one["Name"] for one in main.list_buckets(BucketRegion="us-east-1", Prefix=bucket)["Buckets"]]
    assert names == [bucket]


def test_delete_wants_an_empty_bucket_of_the_callers(main: Any, alt: Any, new_bucket: Callable[..., str]) -> None:
    name = new_bucket()
    main.put_object(Bucket=name, Key="key", Body=b"x")
    with refused("BucketNotEmpty", 409):
        main.delete_bucket(Bucket=name)
    main.delete_object(Bucket=name, Key="key")
    with refused("AccessDenied", 403):
        alt.delete_bucket(Bucket=name)
    main.delete_bucket(Bucket=name)
    with refused("NoSuchBucket", 404):
        main.delete_bucket(Bucket=name)


def test_delete_of_a_bucket_with_a_delete_marker_is_refused(main: Any, versioned: str) -> None:
    marker = main.delete_object(Bucket=versioned, Key="never-there")["VersionId"]
    with refused("BucketNotEmpty", 409):
        main.delete_bucket(Bucket=versioned)
    main.delete_object(Bucket=versioned, Key="never-there", VersionId=marker)
    main.delete_bucket(Bucket=versioned)


def test_delete_with_an_upload_in_progress(main: Any, new_bucket: Callable[..., str]) -> None:
    name = new_bucket()
    upload = main.create_multipart_upload(Bucket=name, Key="key")["UploadId"]
    main.upload_part(Bucket=name, Key="key", UploadId=upload, PartNumber=1, Body=b"part")
    main.delete_bucket(Bucket=name)
    main.create_bucket(Bucket=name)
    with refused("NoSuchUpload", 404):
        main.list_parts(Bucket=name, Key="key", UploadId=upload)
