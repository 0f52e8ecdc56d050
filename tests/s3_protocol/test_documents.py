"""XML payloads: what clients send is read, what attackers send is refused."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel as BotoModel
from botocore.serialize import create_serializer
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3.documents import DocumentParser
from gateway.s3.errors import S3Error
from gateway.s3.model import ServiceModel

MODEL = ServiceModel.load()
BOTO = BotoModel(Loader().load_service_model("s3", "service-2"), "s3")
SERIALIZER = create_serializer("rest-xml", include_validation=False)
DELETE = DocumentParser(MODEL.operations["DeleteObjects"])
COMPLETE = DocumentParser(MODEL.operations["CompleteMultipartUpload"])
TAGGING = DocumentParser(MODEL.operations["PutObjectTagging"])

XML_TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r￾￿", min_codepoint=32), min_size=1, max_size=40
)


def _sent(operation: str, **params: Any) -> bytes:
    body = SERIALIZER.serialize_to_request({"Bucket": "b", **params}, BOTO.operation_model(operation))["body"]
    return body if isinstance(body, bytes) else body.encode()


@given(st.lists(st.tuples(XML_TEXT, st.none() | XML_TEXT), min_size=1, max_size=20), st.booleans())
def test_delete_as_the_sdk_writes_it(keys: list[tuple[str, str | None]], quiet: bool) -> None:
    objects = [{"Key": key} if version is None else {"Key": key, "VersionId": version} for key, version in keys]
    assert DELETE.parse(_sent("DeleteObjects", Delete={"Objects": objects, "Quiet": quiet})) == {
        "Objects": objects,
        "Quiet": quiet,
    }


@given(st.lists(st.tuples(XML_TEXT, XML_TEXT), max_size=10))
def test_tagging_as_the_sdk_writes_it(tags: list[tuple[str, str]]) -> None:
    document = {"TagSet": [{"Key": key, "Value": value} for key, value in tags]}
    assert TAGGING.parse(_sent("PutObjectTagging", Key="k", Tagging=document)) == document


def test_ten_thousand_parts_fit() -> None:
    parts = [
        {"ETag": f'"{number:032x}"', "PartNumber": number, "ChecksumSHA512": "A" * 88} for number in range(1, 10_001)
    ]
    data = _sent("CompleteMultipartUpload", Key="k", UploadId="u", MultipartUpload={"Parts": parts})
    assert len(data) < COMPLETE.limit
    assert COMPLETE.parse(data)["Parts"] == parts


def test_namespace_and_prefix_make_no_difference() -> None:
    for open_tag, close in (
        ("<Tagging>", "</Tagging>"),
        ('<Tagging xmlns="http://s3.amazonaws.com/doc/2006-03-01/">', "</Tagging>"),
        ('<s3:Tagging xmlns:s3="http://s3.amazonaws.com/doc/2006-03-01/">', "</s3:Tagging>"),
    ):
        inner = "<TagSet>\n <Tag><Key>a</Key><Value></Value></Tag>\n</TagSet>"
        assert TAGGING.parse(f"{open_tag}{inner}{close}".encode()) == {"TagSet": [{"Key": "a", "Value": ""}]}


def test_parts_may_say_more_than_is_asked() -> None:
    part = b"<Part><PartNumber>1</PartNumber><ETag>x</ETag><Size>5<b/></Size></Part>"
    data = b"<CompleteMultipartUpload>" + part + b"</CompleteMultipartUpload>"
    assert COMPLETE.parse(data) == {"Parts": [{"PartNumber": 1, "ETag": "x"}]}


_BOMB = (
    '<!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<Delete><Object><Key>&b;</Key></Object></Delete>"
)
_EXTERNAL = '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&x;</Key></Object></Delete>'


@pytest.mark.parametrize(
    "data",
    [
        _BOMB,
        _EXTERNAL,
        '<!DOCTYPE Delete SYSTEM "http://127.0.0.1/x.dtd"><Delete><Object><Key>k</Key></Object></Delete>',
        "<?xml-stylesheet href='x'?><Delete><Object><Key>k</Key></Object></Delete>",
        "<Delete><Object><Key>k</Key></Object>",
        "<Delete><Object><Key>k</Key></Object></Delete><more/>",
        "<Delete></Delete>",
        "<Delete><Object></Object></Delete>",
        "<Delete><Object><Key>k</Key><Key>j</Key></Object></Delete>",
        "<Delete><Object><Key>k</Key><Unknown/></Object></Delete>",
        "<Delete><Object>text<Key>k</Key></Object></Delete>",
        "<Delete><Object><Key>k<b/></Key></Object></Delete>",
        "<Delete><Quiet>perhaps</Quiet><Object><Key>k</Key></Object></Delete>",
        "<Delete><Object><Key>k</Key><Size>many</Size></Object></Delete>",
        "<Other><Object><Key>k</Key></Object></Other>",
        "<Delete><Object><Key>&undefined;</Key></Object></Delete>",
        "<Delete><Object><Key>&#0;</Key></Object></Delete>",
        "<Delete>" + "<Object>" * 100,
        "not xml at all",
        "",
        '<?xml version="1.0" encoding="no-such-encoding"?><Delete><Object><Key>k</Key></Object></Delete>',
    ],
)
def test_bad_documents_are_malformed(data: str) -> None:
    with pytest.raises(S3Error) as refused:
        DELETE.parse(data.encode())
    assert (refused.value.code, refused.value.status) == ("MalformedXML", 400)


def test_element_count_is_bounded() -> None:
    data = "<Delete>" + "<Object><Key>k</Key></Object>" * 120_000 + "</Delete>"
    with pytest.raises(S3Error, match="MalformedXML"):
        DELETE.parse(data.encode())


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    with pytest.raises(S3Error, match="MalformedXML"):
        DELETE.parse(b"<Delete>" + data)


def test_escapes_of_control_characters_are_refused_but_whitespace_kept() -> None:
    data = f"<Delete><Object><Key>{escape(' a')}&#13;&#10;b </Key></Object></Delete>"
    assert DELETE.parse(data.encode())["Objects"] == [{"Key": " a\r\nb "}]
