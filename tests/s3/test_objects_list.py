"""ListObjects, ListObjectsV2, ListObjectVersions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.harness.live_server import LiveServer
from tests.s3.expecting import MAIN_ID, keys, plain_request, prefixes, refused

NAMES = ["a", "b/1", "b/2", "b/c/3", "d", "e f+g", "é", "z/", "z/y"]


@pytest.fixture
def filled(main: Any, bucket: str) -> str:
    for name in NAMES:
        main.put_object(Bucket=bucket, Key=name, Body=name.encode())
    return bucket


def _pages(call: Callable[..., Any], token_in: str, token_out: str, **options: Any) -> list[Any]:
    pages = [call(**options)]
    while pages[-1]["IsTruncated"]:
        pages.append(call(**options, **{token_in: pages[-1][token_out]}))
        assert len(pages) < 50
    return pages


def test_all_in_byte_order_with_what_a_row_says(main: Any, filled: str) -> None:
    order = sorted(NAMES, key=str.encode)
    for call in (main.list_objects, main.list_objects_v2):
        answer = call(Bucket=filled)
        assert keys(answer) == order
        row = answer["Contents"][0]
        assert (row["Size"], row["StorageClass"]) == (1, "STANDARD")
        assert row["ETag"] == main.head_object(Bucket=filled, Key="a")["ETag"]
        assert row["LastModified"] == main.head_object(Bucket=filled, Key="a")["LastModified"]
        assert row["ChecksumAlgorithm"] == ["CRC32"]


def test_rows_of_several_kinds_on_one_page(main: Any, versioned: str) -> None:
    odd = ["100%s", 'a&<b>"', "b\x01\r", "c", "d%20"]
    main.put_object(Bucket=versioned, Key=odd[0], Body=b"1", ChecksumAlgorithm="SHA256")
    main.put_object(Bucket=versioned, Key=odd[1], Body=b"22", ChecksumAlgorithm="CRC32C")
    main.delete_object(Bucket=versioned, Key=odd[1])
    for number, key in enumerate(odd[1:], 3):
        main.put_object(Bucket=versioned, Key=key, Body=b"x" * number, ChecksumAlgorithm="CRC32")
    listed = main.list_objects_v2(Bucket=versioned)["Contents"]
    assert [(row["Key"], row["Size"]) for row in listed] == list(zip(odd, [1, 3, 4, 5, 6], strict=True))
    assert [row["ChecksumAlgorithm"] for row in listed] == [["SHA256"]] + [["CRC32"]] * 4
    answer = main.list_object_versions(Bucket=versioned)
    rows = [(row["Key"], row["IsLatest"], row["Size"], row["ChecksumAlgorithm"]) for row in answer["Versions"]]
    assert rows[:3] == [(odd[0], True, 1, ["SHA256"]), (odd[1], True, 3, ["CRC32"]), (odd[1], False, 2, ["CRC32C"])]
    assert [(row["Key"], row["IsLatest"]) for row in answer["DeleteMarkers"]] == [(odd[1], False)]


def test_owner_is_told_by_the_first_version_and_on_demand(main: Any, filled: str) -> None:
    owner = {"DisplayName": "Main User", "ID": MAIN_ID}
    assert main.list_objects(Bucket=filled)["Contents"][0]["Owner"] == owner
    assert "Owner" not in main.list_objects_v2(Bucket=filled)["Contents"][0]
    assert main.list_objects_v2(Bucket=filled, FetchOwner=True)["Contents"][0]["Owner"] == owner


def test_prefix_and_delimiter(main: Any, filled: str) -> None:
    top = main.list_objects_v2(Bucket=filled, Delimiter="/")
    assert (keys(top), prefixes(top)) == (["a", "d", "e f+g", "é"], ["b/", "z/"])
    assert top["KeyCount"] == 6
    below = main.list_objects(Bucket=filled, Delimiter="/", Prefix="b/")
    assert (keys(below), prefixes(below)) == (["b/1", "b/2"], ["b/c/"])
    odd = main.list_objects_v2(Bucket=filled, Delimiter=" f", Prefix="e")
    assert prefixes(odd) == ["e f"]
    assert keys(main.list_objects_v2(Bucket=filled, Prefix="nothing")) == []


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_pages_of_v2_miss_and_repeat_nothing(main: Any, filled: str, size: int) -> None:
    pages = _pages(
        main.list_objects_v2, "ContinuationToken", "NextContinuationToken", Bucket=filled, MaxKeys=size, Delimiter="/"
    )
    assert [key for page in pages for key in keys(page)] == ["a", "d", "e f+g", "é"]
    assert [prefix for page in pages for prefix in prefixes(page)] == ["b/", "z/"]
    assert all(page["KeyCount"] <= size for page in pages)


def test_pages_of_v1_go_on_after_next_marker(main: Any, filled: str) -> None:
    pages = _pages(main.list_objects, "Marker", "NextMarker", Bucket=filled, MaxKeys=2, Delimiter="/")
    assert [key for page in pages for key in keys(page)] == ["a", "d", "e f+g", "é"]
    plain = main.list_objects(Bucket=filled, MaxKeys=2)
    assert plain["IsTruncated"]
    assert keys(main.list_objects(Bucket=filled, Marker=keys(plain)[-1])) == sorted(NAMES, key=str.encode)[2:]


def test_start_after_and_zero_keys(main: Any, filled: str) -> None:
    assert keys(main.list_objects_v2(Bucket=filled, StartAfter="d"))[0] == "e f+g"
    empty = main.list_objects_v2(Bucket=filled, MaxKeys=0)
    assert (empty["KeyCount"], empty["IsTruncated"]) == (0, False)


def test_url_encoding(main: Any, server: LiveServer, filled: str) -> None:
    url = main.generate_presigned_url("list_objects_v2", {"Bucket": filled, "Prefix": "e f+", "EncodingType": "url"})
    body = plain_request("GET", url).body.decode()
    assert "<EncodingType>url</EncodingType>" in body
    assert f"<Key>{quote('e f+g', safe='/')}</Key>" in body
    assert "<Prefix>e%20f%2B</Prefix>" in body
    assert main.list_objects(Bucket=filled, Prefix="e f+")["Prefix"] == "e f+"
    with refused("InvalidArgument", 400):
        main.list_objects_v2(Bucket=filled, EncodingType="base64")


def test_wrong_arguments(main: Any, filled: str) -> None:
    with refused("InvalidArgument", 400):
        main.list_objects_v2(Bucket=filled, MaxKeys=-1)
    with refused("InvalidArgument", 400):
        main.list_objects_v2(Bucket=filled, ContinuationToken="!")
    with refused("NoSuchBucket", 404):
        main.list_objects(Bucket="missing-bucket-name")


def test_listing_is_refused_to_others(alt: Any, anonymous: Any, filled: str) -> None:
    for client in (alt, anonymous):
        for call in (client.list_objects, client.list_objects_v2, client.list_object_versions):
            with refused("AccessDenied", 403):
                call(Bucket=filled)


def test_versions_newest_first_with_markers(main: Any, versioned: str) -> None:
    ids = [main.put_object(Bucket=versioned, Key="key", Body=body)["VersionId"] for body in (b"1", b"22")]
    marker = main.delete_object(Bucket=versioned, Key="key")["VersionId"]
    other = main.put_object(Bucket=versioned, Key="other", Body=b"x")["VersionId"]
    answer = main.list_object_versions(Bucket=versioned)
    rows = [(row["Key"], row["VersionId"], row["IsLatest"], row["Size"]) for row in answer["Versions"]]
    assert rows == [("key", ids[1], False, 2), ("key", ids[0], False, 1), ("other", other, True, 1)]
    (deleted,) = answer["DeleteMarkers"]
    assert (deleted["VersionId"], deleted["IsLatest"], deleted["Owner"]["ID"]) == (marker, True, MAIN_ID)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_pages_of_versions(main: Any, versioned: str, size: int) -> None:
    for number in range(3):
        for key in ("a", "b/1", "b/2", "c"):
            main.put_object(Bucket=versioned, Key=key, Body=str(number).encode())
    whole = [(row["Key"], row["VersionId"]) for row in main.list_object_versions(Bucket=versioned)["Versions"]]
    assert len(whole) == 12
    found: list[tuple[str, str]] = []
    options: dict[str, str] = {}
    while True:
        page = main.list_object_versions(Bucket=versioned, MaxKeys=size, **options)
        found += [(row["Key"], row["VersionId"]) for row in page.get("Versions", [])]
        if not page["IsTruncated"]:
            break
        options = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
    assert found == whole
    grouped = main.list_object_versions(Bucket=versioned, Delimiter="/")
    assert prefixes(grouped) == ["b/"]
    assert len(grouped["Versions"]) == 6


def test_versions_of_an_unversioned_bucket(main: Any, filled: str) -> None:
    rows = main.list_object_versions(Bucket=filled)["Versions"]
    assert {row["VersionId"] for row in rows} == {"null"}
    assert all(row["IsLatest"] for row in rows)


def test_version_markers_are_checked(main: Any, versioned: str) -> None:
    with refused("InvalidArgument", 400):
        main.list_object_versions(Bucket=versioned, VersionIdMarker="0" * 32)
    with refused("InvalidArgument", 400):
        main.list_object_versions(Bucket=versioned, KeyMarker="key", VersionIdMarker="nonsense")
