"""Get/Put/DeleteBucketTagging."""

from __future__ import annotations

from typing import Any

from tests.s3.expecting import refused


def _tags(count: int) -> dict[str, Any]:
    return {"TagSet": [{"Key": f"key-{number:02d}", "Value": f"value {number}"} for number in range(count)]}


def test_tags_are_set_read_replaced_and_removed(main: Any, bucket: str) -> None:
    with refused("NoSuchTagSet", 404):
        main.get_bucket_tagging(Bucket=bucket)
    for count in (3, 50):
        main.put_bucket_tagging(Bucket=bucket, Tagging=_tags(count))
        assert main.get_bucket_tagging(Bucket=bucket)["TagSet"] == _tags(count)["TagSet"]
    answer = main.delete_bucket_tagging(Bucket=bucket)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused("NoSuchTagSet", 404):
        main.get_bucket_tagging(Bucket=bucket)


def test_other_settings_stay(main: Any, versioned: str) -> None:
    main.put_bucket_tagging(Bucket=versioned, Tagging=_tags(1))
    main.delete_bucket_tagging(Bucket=versioned)
    assert main.get_bucket_versioning(Bucket=versioned)["Status"] == "Enabled"


def test_limits(main: Any, bucket: str) -> None:
    with refused("InvalidTag", 400):
        main.put_bucket_tagging(Bucket=bucket, Tagging=_tags(51))
    with refused("InvalidTag", 400):
        main.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "aws:x", "Value": "y"}]})
    with refused("NoSuchTagSet", 404):
        main.get_bucket_tagging(Bucket=bucket)


def test_only_the_owner(main: Any, alt: Any, anonymous: Any, bucket: str) -> None:
    main.put_bucket_tagging(Bucket=bucket, Tagging=_tags(1))
    for client in (alt, anonymous):
        with refused("AccessDenied", 403):
            client.get_bucket_tagging(Bucket=bucket)
        with refused("AccessDenied", 403):
            client.put_bucket_tagging(Bucket=bucket, Tagging=_tags(2))
        with refused("AccessDenied", 403):
            client.delete_bucket_tagging(Bucket=bucket)
    assert len(main.get_bucket_tagging(Bucket=bucket)["TagSet"]) == 1
