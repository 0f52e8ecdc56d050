"""Tables: the same bytes as the list of mappings that they stand for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3.model import ServiceModel
from gateway.s3.rendering import Renderer
from gateway.s3.tables import Table
from gateway.s3.texts import escape, escape_all, iso8601_all, url_encode, url_encode_all
from gateway.s3.values import iso8601

MODEL = ServiceModel.load()
OBJECTS, VERSIONS = Renderer(MODEL.operations["ListObjectsV2"]), Renderer(MODEL.operations["ListObjectVersions"])
SHARED: list[dict[str, Any]] = [
    {"StorageClass": "STANDARD"},
    {"StorageClass": "100%s", "ChecksumAlgorithm": ("CRC32", "SHA1"), "ChecksumType": "COMPOSITE"},
    {"StorageClass": "STANDARD", "Owner": {"DisplayName": "50% & more", "ID": "%(x)d"}},
]

keys = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["%s", "%", "a&b", "<", '"', "\x00", "\r", "a b", "a+b", "~*", "\uffff", "é/%41"]
)
etags = st.sampled_from(["0" * 32, "f" * 32 + "-12", "a&b", "%d", ""])
moments = st.integers(0, 2**52)
rows = st.tuples(keys, moments, etags, st.integers(0, 2**63), st.integers(0, 2), st.booleans())


def _columns(found: list[Any]) -> dict[str, list[Any]]:
    return {
        "Size": [row[3] for row in found],
        "Key": [row[0] for row in found],
        "LastModified": [row[1] for row in found],
        "ETag": [row[2] for row in found],
    }


@pytest.mark.parametrize("url_encoded", [False, True])
@given(found=st.lists(rows, max_size=6))
def test_objects_as_a_table_read_like_objects_one_by_one(url_encoded: bool, found: list[Any]) -> None:
    table = Table(_columns(found), [row[4] for row in found], SHARED)
    plain = [
        {"Key": key, "LastModified": moment, "ETag": etag, "Size": size, **SHARED[kind]}
        for key, moment, etag, size, kind, _ in found
    ]
    expected = OBJECTS.document({"Contents": plain}, url_encoded=url_encoded)
    assert OBJECTS.document({"Contents": table}, url_encoded=url_encoded) == expected


@given(found=st.lists(rows, max_size=6))
def test_delete_markers_stand_among_versions_without_their_columns(found: list[Any]) -> None:
    shared: list[dict[str, Any]] = []
    plain: list[dict[str, Any]] = []
    for key, moment, etag, size, kind, marker in found:
        about = {"IsLatest": kind == 1, "Owner": {"ID": "%"}}
        if marker:
            shared.append({"DeleteMarker": True, **about, "ETag": None, "Size": None})
            plain.append({"DeleteMarker": True, **about, "Key": key, "LastModified": moment})
        else:
            shared.append({**about, **SHARED[kind]})
            row = {"Key": key, "LastModified": moment, "ETag": etag, "Size": size}
            plain.append({**about, **SHARED[kind], **row})
    table = Table(_columns(found), range(len(found)), shared)
    assert VERSIONS.document({"Versions": table}) == VERSIONS.document({"Versions": plain})


@given(st.lists(keys))
def test_columns_of_texts_are_as_their_texts(column: list[str]) -> None:
    assert list(escape_all(column)) == [escape(text) for text in column]
    assert list(url_encode_all(column)) == [url_encode(text) for text in column]


@given(moments)
def test_times_are_as_the_calendar_has_them(moment: int) -> None:
    exact = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment)
    assert iso8601(moment) == exact.strftime("%Y-%m-%dT%H:%M:%S.000Z")


@given(st.lists(moments))
def test_columns_of_times_are_as_their_times(column: list[int]) -> None:
    assert list(iso8601_all(column)) == [iso8601(moment) for moment in column]
