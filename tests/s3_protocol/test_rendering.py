"""Answers: the SDK reads back what was meant, for every operation of the model."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

import pytest
from botocore.awsrequest import HeadersDict
from botocore.loaders import Loader
from botocore.model import ServiceModel as BotoModel
from botocore.parsers import create_parser

from gateway.s3.model import Member, Operation, ServiceModel, Shape
from gateway.s3.rendering import Renderer, render_error
from gateway.s3.routing import SAME_REQUEST
from gateway.s3.texts import escape, url_encode

MODEL = ServiceModel.load()
BOTO = BotoModel(Loader().load_service_model("s3", "service-2"), "s3")
MOMENT = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)


def _sample(shape: Shape, member: Member | None, depth: int = 0) -> Any:
    if shape.kind == "structure":
        if depth > 6:
            return {}
        return {
            name: _sample(one.shape, one, depth + 1) for name, one in shape.members.items() if not one.location or depth
        }
    if shape.kind == "list":
        assert shape.item is not None
        return [_sample(shape.item, None, depth + 1)] * 2
    if shape.kind == "map":
        return {"one": "1", "two": "2"}
    if shape.kind == "timestamp":
        return MOMENT
    if shape.kind == "boolean":
        return True
    if shape.kind in ("integer", "long"):
        return 7
    if shape.name == "ETag":
        return '"abc"'
    return "x & <y>" if member is None or not member.location else "value"


def _output(operation: Operation) -> dict[str, Any]:
    output = {}
    for name, member in operation.output.members.items():
        if name == operation.output_payload and member.shape.kind == "blob":
            continue
        if member.shape.kind == "structure" and member.shape.event_stream:
            continue
        output[name] = _sample(member.shape, member)
    return output


def _read(operation: str, status: int, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    response = {"status_code": status, "headers": HeadersDict(headers), "body": body}
    shape = BOTO.operation_model(operation).output_shape
    parsed: dict[str, Any] = create_parser("rest-xml").parse(response, shape)
    parsed.pop("ResponseMetadata")
    return parsed


# an event stream, and a document that the SDK reads outside its parser
ODD = {"SelectObjectContent", "GetBucketLocation"}


@pytest.mark.parametrize("name", sorted(set(MODEL.operations) - set(SAME_REQUEST) - ODD))
def test_every_output_is_read_back_by_the_sdk(name: str) -> None:
    operation = MODEL.operations[name]
    renderer = Renderer(operation)
    output = _output(operation)
    body = renderer.document(output) or b""
    parsed = _read(name, renderer.status, renderer.headers(output), body)
    if not output:
        assert body == b""
    for member, value in output.items():
        if operation.output.members[member].shape.name == "Expires":
            continue  # the SDK reads it in two ways of its own
        assert parsed[member] == value, member


def test_location_is_the_text_of_its_root() -> None:
    renderer = Renderer(MODEL.operations["GetBucketLocation"])
    for place in ("eu-west-1", None):
        body = renderer.document({"LocationConstraint": place})
        assert body is not None
        root = ElementTree.fromstring(body)
        assert (root.tag, root.text) == ("{http://s3.amazonaws.com/doc/2006-03-01/}LocationConstraint", place)


def test_listing_with_url_encoding_and_without() -> None:
    renderer = Renderer(MODEL.operations["ListObjectsV2"])
    output = {
        "Prefix": "foo+1/ä",
        "Delimiter": "/",
        "Contents": [{"Key": "a b/c\r&", "ETag": "e" * 32, "LastModified": 1_700_000_000_123_456, "Size": 0}],
        "CommonPrefixes": [{"Prefix": "x y/"}],
        "ContinuationToken": "a b",
        "IsTruncated": False,
    }
    encoded = (renderer.document(output, url_encoded=True) or b"").decode()
    assert "<Prefix>foo%2B1/%C3%A4</Prefix>" in encoded
    assert "<Key>a%20b/c%0D%26</Key>" in encoded
    assert "<CommonPrefixes><Prefix>x%20y/</Prefix></CommonPrefixes>" in encoded
    assert "<ContinuationToken>a b</ContinuationToken>" in encoded
    assert "<LastModified>2023-11-14T22:13:20.000Z</LastModified>" in encoded
    plain = (renderer.document(output) or b"").decode()
    assert "<Key>a b/c&#xd;&amp;</Key>" in plain
    assert "<ETag>&quot;" + "e" * 32 + "&quot;</ETag>" in plain
    assert plain.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/')


def test_versions_and_delete_markers_keep_their_order() -> None:
    renderer = Renderer(MODEL.operations["ListObjectVersions"])
    rows = [{"Key": "a", "DeleteMarker": True}, {"Key": "a", "VersionId": "1"}, {"Key": "b", "DeleteMarker": True}]
    text = (renderer.document({"Versions": rows}) or b"").decode()
    assert text.index("<DeleteMarker><Key>a") < text.index("<Version><Key>a") < text.index("<DeleteMarker><Key>b")
    parsed = _read("ListObjectVersions", 200, {}, text.encode())
    assert [one["Key"] for one in parsed["DeleteMarkers"]] == ["a", "b"]
    assert [one["Key"] for one in parsed["Versions"]] == ["a"]


def test_object_attributes_have_bare_etags() -> None:
    text = Renderer(MODEL.operations["GetObjectAttributes"]).document({"ETag": "abc"})
    assert text is not None
    assert b"<ETag>abc</ETag>" in text


def test_characters_that_xml_can_not_carry_become_references() -> None:
    assert escape("a\x00b\x1f\x7f￿\n\t") == "a&#x0;b&#x1f;&#x7f;&#xffff;\n\t"
    assert url_encode("a b+c/~*") == "a%20b%2Bc/~*"


def test_error_document_is_read_by_the_sdk() -> None:
    body = render_error("NoSuchKey", "no <such> key", {"Key": "a&b"}, "/b/a&b", "ID", "HOST")
    response = {"status_code": 404, "headers": {}, "body": body}
    parsed = create_parser("rest-xml").parse(response, BOTO.operation_model("GetObject").output_shape)
    error = parsed["Error"]
    assert (error["Code"], error["Message"], error["Key"]) == ("NoSuchKey", "no <such> key", "a&b")


def test_error_documents_stay_readable_whatever_they_quote() -> None:
    quoted = "a\x00b\x01c\uffffd\udcffe"
    body = render_error("NoSuchUpload", f"no {quoted}", {"UploadId": quoted}, f"/b/{quoted}", "ID", "HOST")
    response = {"status_code": 404, "headers": {}, "body": body}
    error = create_parser("rest-xml").parse(response, BOTO.operation_model("GetObject").output_shape)["Error"]
    assert (error["Code"], error["UploadId"]) == ("NoSuchUpload", "a\ufffdb\ufffdc\ufffdd\ufffde")


def test_no_operation_shares_its_name_in_the_same_request_table() -> None:
    for name, other in SAME_REQUEST.items():
        assert name in MODEL.operations
        assert other in MODEL.operations
        assert other not in SAME_REQUEST
