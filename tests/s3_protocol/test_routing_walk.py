"""No operation and no subresource of the model may be taken for another one."""

from __future__ import annotations

import itertools

import pytest

from gateway.s3.errors import S3Error
from gateway.s3.model import Level, Operation, ServiceModel
from gateway.s3.routing import EXTRA_MARKERS, IDENTIFIERS, SAME_REQUEST, Router

MODEL = ServiceModel.load()
ROUTER = Router(MODEL)
PATHS = {Level.SERVICE: "/", Level.BUCKET: "/bucket", Level.OBJECT: "/bucket/key"}
METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD")
BASE = {
    (one.method, one.level): one.name
    for one in MODEL.operations.values()
    if not one.markers and not one.required_query and not one.required_headers and one.name not in SAME_REQUEST
}


def _request_of(operation: Operation) -> tuple[dict[str, str], set[str]]:
    query = dict(operation.markers)
    query.update(dict.fromkeys(operation.required_query, "1"))
    return query, set(operation.required_headers)


def _outcome(method: str, level: Level, query: dict[str, str], headers: set[str]) -> Operation | S3Error:
    try:
        return ROUTER.route(method, level, PATHS[level], query, headers)
    except S3Error as refusal:
        return refusal


def test_the_model_has_what_the_table_in_the_documents_says() -> None:
    assert len(MODEL.operations) == 116


@pytest.mark.parametrize("name", sorted(MODEL.operations))
def test_every_operation_is_found_and_only_itself(name: str) -> None:
    operation = MODEL.operations[name]
    query, headers = _request_of(operation)
    path = operation.path if name == "WriteGetObjectResponse" else PATHS[operation.level]
    found = ROUTER.route(operation.method, operation.level, path, query, headers)
    assert found.name == SAME_REQUEST.get(name, name)
    with_noise = {**query, "x-id": name, "unheard-of": "1"}
    assert ROUTER.route(operation.method, operation.level, path, with_noise, headers) is found


@pytest.mark.parametrize("marker", sorted(MODEL.markers() | EXTRA_MARKERS))
def test_no_marker_falls_through_to_a_base_operation(marker: str) -> None:
    assert marker in ROUTER.markers()
    for method, level, value in itertools.product(METHODS, Level, ("", "2", "x")):
        for headers in (set[str](), {"x-amz-copy-source"}):
            for more in ({}, {"uploadId": "u", "partNumber": "1"}, {"versionId": "v"}, {"id": "i"}):
                found = _outcome(method, level, {marker: value, **more}, headers)
                if isinstance(found, S3Error):
                    assert found.status in (400, 405, 412, 501)
                else:
                    assert marker in found.markers, f"{method} {level} ?{marker} became {found.name}"


def test_two_markers_never_become_the_operation_of_one_or_none() -> None:
    for first, second in itertools.combinations(sorted(MODEL.markers()), 2):
        for method, level in itertools.product(METHODS, (Level.BUCKET, Level.OBJECT)):
            found = _outcome(method, level, {first: "", second: ""}, set())
            assert isinstance(found, S3Error) or {first, second} <= set(found.markers)


@pytest.mark.parametrize("name", IDENTIFIERS)
@pytest.mark.parametrize(("method", "level"), sorted(BASE, key=str))
def test_identifiers_are_refused_where_the_operation_does_not_take_them(name: str, method: str, level: Level) -> None:
    base = MODEL.operations[BASE[method, level]]
    with pytest.raises(S3Error) as empty:
        ROUTER.route(method, level, PATHS[level], {name: ""}, ())
    assert empty.value.status == 400
    found = _outcome(method, level, {name: "1"}, set())
    if isinstance(found, S3Error):
        assert found.status == 400
        assert name not in base.query_members
    else:
        assert name in found.query_members


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("PUT", {"uploadId": "u"}),
        ("PUT", {"partNumber": "1"}),
        ("PUT", {"uploadId": "u", "partNumber": ""}),
        ("PUT", {"uploadId": "", "partNumber": "1"}),
        ("PUT", {"versionId": "v"}),
        ("DELETE", {"partNumber": "1"}),
        ("DELETE", {"uploadId": "u", "partNumber": "1"}),
        ("POST", {"partNumber": "1"}),
        ("HEAD", {"uploadId": "u"}),
        ("GET", {"versionId": ""}),
    ],
)
def test_lone_or_empty_identifiers_are_400(method: str, query: dict[str, str]) -> None:
    for headers in (set[str](), {"x-amz-copy-source"}):
        with pytest.raises(S3Error) as refused:
            ROUTER.route(method, Level.OBJECT, "/bucket/key", query, headers)
        assert (refused.value.code, refused.value.status) == ("InvalidArgument", 400)


def test_put_on_a_key_is_four_operations() -> None:
    part = {"uploadId": "u", "partNumber": "1"}
    expected = {(False, False): "PutObject", (False, True): "CopyObject", (True, False): "UploadPart",
                (True, True): "UploadPartCopy"}  # fmt: skip
    for (multipart, copy), name in expected.items():
        headers = {"x-amz-copy-source"} if copy else set()
        found = ROUTER.route("PUT", Level.OBJECT, "/bucket/key", part if multipart else {}, headers)
        assert found.name == name


def test_a_plain_post_on_a_key_is_nothing() -> None:
    with pytest.raises(S3Error) as refused:
        ROUTER.route("POST", Level.OBJECT, "/bucket/key", {}, ())
    assert refused.value.status == 405
