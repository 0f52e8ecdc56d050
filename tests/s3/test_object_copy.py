"""CopyObject."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.s3.expecting import PART, md5_hex, refused, sha256_base64


@pytest.fixture
def source(main: Any, bucket: str) -> str:
    main.put_object(
        Bucket=bucket,
        Key="source",
        Body=b"source body",
        ContentType="text/plain",
        CacheControl="no-cache",
        Metadata={"kept": "yes"},
        Tagging="a=1&b=2",
        StorageClass="STANDARD_IA",
        ACL="public-read",
    )
    return bucket


def _copy(client: Any, bucket: str, key: str = "copy", source: str = "source", **options: Any) -> Any:
    return client.copy_object(Bucket=bucket, Key=key, CopySource={"Bucket": bucket, "Key": source}, **options)


def test_copy_carries_bytes_headers_metadata_and_tags_only(main: Any, source: str) -> None:
    answer = _copy(main, source)["CopyObjectResult"]
    assert answer["ETag"] == f'"{md5_hex(b"source body")}"'
    read = main.get_object(Bucket=source, Key="copy")
    assert read["Body"].read() == b"source body"
    assert (read["ContentType"], read["CacheControl"], read["Metadata"]) == ("text/plain", "no-cache", {"kept": "yes"})
    assert "StorageClass" not in read
    tags = main.get_object_tagging(Bucket=source, Key="copy")["TagSet"]
    assert tags == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    assert len(main.get_object_acl(Bucket=source, Key="copy")["Grants"]) == 1


def test_replaced_metadata_and_tags(main: Any, source: str) -> None:
    _copy(
        main,
        source,
        MetadataDirective="REPLACE",
        Metadata={"new": "one"},
        ContentType="text/html",
        TaggingDirective="REPLACE",
        Tagging="c=3",
        StorageClass="ONEZONE_IA",
        ACL="authenticated-read",
    )
    read = main.head_object(Bucket=source, Key="copy")
    assert (read["ContentType"], read["Metadata"], read["StorageClass"]) == ("text/html", {"new": "one"}, "ONEZONE_IA")
    assert "CacheControl" not in read
    assert main.get_object_tagging(Bucket=source, Key="copy")["TagSet"] == [{"Key": "c", "Value": "3"}]
    assert len(main.get_object_acl(Bucket=source, Key="copy")["Grants"]) == 2


def test_copy_outlives_its_source(main: Any, source: str) -> None:
    _copy(main, source)
    main.delete_object(Bucket=source, Key="source")
    assert main.get_object(Bucket=source, Key="copy")["Body"].read() == b"source body"


def test_copy_onto_itself_needs_a_change(main: Any, source: str) -> None:
    with refused("InvalidRequest", 400):
        _copy(main, source, key="source")
    _copy(main, source, key="source", MetadataDirective="REPLACE", Metadata={"other": "now"})
    read = main.get_object(Bucket=source, Key="source")
    assert (read["Metadata"], read["Body"].read()) == ({"other": "now"}, b"source body")
    _copy(main, source, key="source", StorageClass="STANDARD")


def test_conditions_on_the_source(main: Any, source: str) -> None:
    head = main.head_object(Bucket=source, Key="source")
    etag, now = head["ETag"], head["LastModified"]
    _copy(main, source, CopySourceIfMatch=etag)
    _copy(main, source, CopySourceIfNoneMatch='"other"')
    for condition in (
        {"CopySourceIfMatch": '"other"'},
        {"CopySourceIfNoneMatch": etag},
        {"CopySourceIfModifiedSince": now + timedelta(seconds=5)},
        {"CopySourceIfUnmodifiedSince": now - timedelta(seconds=5)},
    ):
        with refused("PreconditionFailed", 412):
            _copy(main, source, key="refused", **condition)
    with refused("NoSuchKey", 404):
        main.get_object(Bucket=source, Key="refused")


def test_conditions_on_the_destination(main: Any, source: str) -> None:
    _copy(main, source, IfNoneMatch="*")
    with refused("PreconditionFailed", 412):
        _copy(main, source, IfNoneMatch="*")


@pytest.mark.parametrize("key", ["with space", "plus+sign", "per%cent", "q?versionId=x", "ünïcode/日本", "a/../b"])
def test_encoded_source_names(main: Any, bucket: str, key: str) -> None:
    main.put_object(Bucket=bucket, Key=key, Body=key.encode())
    main.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    assert main.get_object(Bucket=bucket, Key="copy")["Body"].read() == key.encode()
    wholly = f"/{bucket}/{key}"

    def encode_everything(params: dict[str, Any], **_: Any) -> None:
        params["headers"]["x-amz-copy-source"] = quote(wholly, safe="")

    main.meta.events.register("before-call.s3.CopyObject", encode_everything)
    try:
        main.copy_object(Bucket=bucket, Key="copy-2", CopySource={"Bucket": bucket, "Key": key})
    finally:
        main.meta.events.unregister("before-call.s3.CopyObject", encode_everything)
    assert main.get_object(Bucket=bucket, Key="copy-2")["Body"].read() == key.encode()


def test_source_versions(main: Any, versioned: str) -> None:
    first = main.put_object(Bucket=versioned, Key="key", Body=b"first")["VersionId"]
    main.put_object(Bucket=versioned, Key="key", Body=b"second")
    answer = main.copy_object(
        Bucket=versioned, Key="copy", CopySource={"Bucket": versioned, "Key": "key", "VersionId": first}
    )
    assert answer["CopySourceVersionId"] == first
    read = main.get_object(Bucket=versioned, Key="copy")
    assert (read["Body"].read(), read["VersionId"]) == (b"first", answer["VersionId"])
    marker = main.delete_object(Bucket=versioned, Key="key")["VersionId"]
    with refused("NoSuchKey", 404):
        main.copy_object(Bucket=versioned, Key="copy", CopySource={"Bucket": versioned, "Key": "key"})
    with refused("InvalidRequest", 400):
        main.copy_object(
            Bucket=versioned, Key="copy", CopySource={"Bucket": versioned, "Key": "key", "VersionId": marker}
        )


def test_wrong_sources_and_directives(main: Any, source: str) -> None:
    with refused("InvalidArgument", 400):
        main.copy_object(Bucket=source, Key="copy", CopySource="no-slash")
    with refused("NoSuchKey", 404):
        _copy(main, source, source="missing")
    with refused("NoSuchBucket", 404):
        main.copy_object(Bucket=source, Key="copy", CopySource="missing-bucket-name/key")
    with refused("InvalidArgument", 400):
        _copy(main, source, MetadataDirective="MERGE")
    with refused("InvalidStorageClass", 400):
        _copy(main, source, StorageClass="PLASTIC")


def test_needs_reading_the_source_and_writing_the_destination(main: Any, alt: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="private", Body=b"x")
    main.put_object(Bucket=bucket, Key="public", Body=b"x", ACL="public-read")
    own = f"alt-{bucket}"
    alt.create_bucket(Bucket=own)
    alt.copy_object(Bucket=own, Key="copy", CopySource=f"{bucket}/public")
    with refused("AccessDenied", 403):
        alt.copy_object(Bucket=own, Key="copy", CopySource=f"{bucket}/private")
    with refused("AccessDenied", 403):
        alt.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/public")
    with refused("AccessDenied", 403):
        main.copy_object(Bucket=own, Key="copy", CopySource=f"{bucket}/private")


def test_another_checksum_algorithm(main: Any, source: str) -> None:
    answer = _copy(main, source, ChecksumAlgorithm="SHA256")["CopyObjectResult"]
    assert answer["ChecksumSHA256"] == sha256_base64(b"source body")
    read = main.get_object(Bucket=source, Key="copy", ChecksumMode="ENABLED")
    assert read["ChecksumSHA256"] == sha256_base64(b"source body")
    assert read["Body"].read() == b"source body"


def test_copy_of_a_multipart_object(main: Any, bucket: str) -> None:
    upload = main.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
    parts = [
        {
            "PartNumber": n,
            "ETag": main.upload_part(Bucket=bucket, Key="big", UploadId=upload, PartNumber=n, Body=body)["ETag"],
        }
        for n, body in ((1, b"a" * PART), (2, b"b"))
    ]
    main.complete_multipart_upload(Bucket=bucket, Key="big", UploadId=upload, MultipartUpload={"Parts": parts})
    _copy(main, bucket, source="big")
    main.delete_object(Bucket=bucket, Key="big")
    assert main.get_object(Bucket=bucket, Key="copy")["Body"].read() == b"a" * PART + b"b"
