"""Members to answers: one writer per operation, compiled from the model at start-up.

XML is built as a list of strings in the model's order of members; headers as a dict. Names of root elements are S3's,
which the model does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.s3.model import XML_NAMESPACE, Member, Operation, Shape
from gateway.s3.tables import Column, Table, TableWriter
from gateway.s3.texts import escape, escape_all, iso8601_all, shown, url_encode, url_encode_all
from gateway.s3.values import http_date, iso8601, quoted_etag

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'

#: Root elements, where they are not the output payload's own name.
ROOTS = {
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "CopyObject": "CopyObjectResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "CreateSession": "CreateSessionResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketAccelerateConfiguration": "AccelerateConfiguration",
    "GetBucketAcl": "AccessControlPolicy",
    "GetBucketCors": "CORSConfiguration",
    "GetBucketLifecycle": "LifecycleConfiguration",
    "GetBucketLifecycleConfiguration": "LifecycleConfiguration",
    "GetBucketLocation": "LocationConstraint",
    "GetBucketLogging": "BucketLoggingStatus",
    "GetBucketNotification": "NotificationConfiguration",
    "GetBucketNotificationConfiguration": "NotificationConfiguration",
    "GetBucketRequestPayment": "RequestPaymentConfiguration",
    "GetBucketTagging": "Tagging",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetBucketWebsite": "WebsiteConfiguration",
    "GetObjectAcl": "AccessControlPolicy",
    "GetObjectAttributes": "GetObjectAttributesResponse",
    "GetObjectTagging": "Tagging",
    "ListBucketAnalyticsConfigurations": "ListBucketAnalyticsConfigurationResult",
    "ListBucketIntelligentTieringConfigurations": "ListBucketIntelligentTieringConfigurationsOutput",
    "ListBucketInventoryConfigurations": "ListInventoryConfigurationsResult",
    "ListBucketMetricsConfigurations": "ListMetricsConfigurationsResult",
    "ListBuckets": "ListAllMyBucketsResult",
    "ListDirectoryBuckets": "ListAllMyDirectoryBucketsResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "ListObjectAnnotations": "ListObjectAnnotationsResult",
    "ListObjectVersions": "ListVersionsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "ListParts": "ListPartsResult",
    "PutObjectAnnotation": "PutObjectAnnotationResult",
    "UploadPartCopy": "CopyPartResult",
}

# Members that `encoding-type=url` encodes, in the operations that know it. Tokens and ids are opaque.
_ENCODED_OPERATIONS = frozenset({"ListObjects", "ListObjectsV2", "ListObjectVersions", "ListMultipartUploads"})
_ENCODED_MEMBERS = frozenset(
    {"Key", "Prefix", "Delimiter", "Marker", "NextMarker", "KeyMarker", "NextKeyMarker", "StartAfter"}
)
# S3 repeats the prefix of the first ListObjects as it came, and SDKs don't decode it.
_NEVER_ENCODED = frozenset({("ListObjectsOutput", "Prefix")})
_BARE_ETAG_OPERATIONS = frozenset({"GetObjectAttributes"})

_Writer = Callable[[list[str], Any], None]
#: A header's name, and the text of its value; None where the member is a map of headers with that prefix.
_HeaderField = tuple[str, Callable[[Any], str] | None]


class Renderer:
    """Writes the answers of one operation."""

    def __init__(self, operation: Operation) -> None:
        self.status = operation.status
        self._headers: dict[str, _HeaderField] = {}
        output, payload = operation.output, operation.output_payload
        for member in output.members.values():
            if member.location in ("header", "headers"):
                self._headers[member.name] = _header_field(member)
        self._payload = payload
        self._payload_kind = output.members[payload].shape.kind if payload else ""
        self._location = operation.name == "GetBucketLocation"
        body_members = [one for one in output.members.values() if not one.location and one.name != payload]
        self._plain: _Writer | None = None
        self._encoded: _Writer | None = None
        self._open = self._close = ""
        if body_members or self._payload_kind == "structure":
            shape = output.members[payload].shape if payload else output
            root = ROOTS.get(operation.name) or output.members[payload].wire_name
            self._open = f'{_DECLARATION}<{root} xmlns="{XML_NAMESPACE}">'
            self._close = f"</{root}>"
            etags = operation.name not in _BARE_ETAG_OPERATIONS
            self._plain = _structure(shape, _Style(etags, False), {})
            if operation.name in _ENCODED_OPERATIONS:
                self._encoded = _structure(shape, _Style(etags, True), {})

    def headers(self, output: Mapping[str, Any]) -> dict[str, str]:
        """The headers that the output's members become."""
        headers: dict[str, str] = {}
        fields = self._headers
        for name, value in output.items():
            if value is not None and name in fields:
                wire, text = fields[name]
                if text is not None:
                    headers[wire] = text(value)
                else:
                    for part, one in value.items():
                        headers[wire + part] = one
        return headers

    def document(self, output: Mapping[str, Any], *, url_encoded: bool = False) -> bytes | None:
        """The XML (or, for a policy, the text) of the answer; None for operations that answer with headers alone."""
        if self._location:
            place = output.get("LocationConstraint")
            return f"{self._open}{escape(place)}{self._close}".encode() if place else (f"{self._open[:-1]}/>".encode())
        if self._plain is None:
            if self._payload_kind == "string" and output.get(self._payload) is not None:
                return str(output[self._payload]).encode()
            return None
        value = output.get(self._payload) or {} if self._payload else output
        parts = [self._open]
        (self._encoded if url_encoded and self._encoded is not None else self._plain)(parts, value)
        parts.append(self._close)
        return "".join(parts).encode("utf-8", "surrogateescape")


class _Style:
    """How text members are printed."""

    def __init__(self, quote_etags: bool, url_encode_keys: bool) -> None:
        self.quote_etags, self.url_encode_keys = quote_etags, url_encode_keys


def _text_of(member: Member | None, shape: Shape, style: _Style) -> Callable[[Any], str]:
    if shape.kind == "boolean":
        return lambda value: "true" if value else "false"
    if shape.kind in ("integer", "long"):
        return str
    if shape.kind == "timestamp":
        return lambda value: escape(value) if isinstance(value, str) else iso8601(value)
    if shape.name == "ETag" and style.quote_etags:
        return _quoted
    if style.url_encode_keys and member is not None and member.name in _ENCODED_MEMBERS:
        return url_encode
    return _plain_text


def _plain_text(value: Any) -> str:
    return escape(value if type(value) is str else str(value))


def _quoted(etag: str) -> str:
    return escape(quoted_etag(etag))


def _structure(shape: Shape, style: _Style, known: dict[str, _Writer]) -> _Writer:
    """A writer of the structure's children, in the model's order."""
    if shape.name in known:
        return known[shape.name]
    # leaves are written here, without another call: (name, start tag, text, end tag, writer of anything else)
    fields: list[tuple[str, str, Callable[[Any], str] | None, str, _Writer | None]] = []

    def write(parts: list[str], value: Any) -> None:
        get, append = value.get, parts.append
        for name, start, text, end, writer in fields:
            inner = get(name)
            if inner is not None:
                if text is not None:
                    append(start + text(inner) + end)
                elif writer is not None:
                    writer(parts, inner)

    known[shape.name] = write
    for member in shape.members.values():
        if not member.location and not member.attribute:
            if member.shape.kind in ("structure", "list"):
                fields.append((member.name, "", None, "", _member(member, style, known)))
            else:
                wire, text = member.wire_name, _text_of(member, member.shape, style)
                if (shape.name, member.name) in _NEVER_ENCODED:
                    text = _plain_text
                fields.append((member.name, f"<{wire}>", text, f"</{wire}>", None))
    return write


def _member(member: Member, style: _Style, known: dict[str, _Writer]) -> _Writer:
    name, shape = member.wire_name, member.shape
    if shape.kind == "list":
        assert shape.item is not None
        if member.flattened:
            if shape.item.kind == "structure":
                return _elements(member, shape.item, style, known)
            return _repeated(_element(name, None, shape.item, style, known))
        item = _repeated(_element(shape.item_name, None, shape.item, style, known))

        def write_list(parts: list[str], value: Any) -> None:
            parts.append(f"<{name}>")
            item(parts, value)
            parts.append(f"</{name}>")

        return write_list
    return _element(name, member, shape, style, known)


def _repeated(item: _Writer) -> _Writer:
    def write_items(parts: list[str], value: Any) -> None:
        for one in value:
            item(parts, one)

    return write_items


def _elements(member: Member, shape: Shape, style: _Style, known: dict[str, _Writer]) -> _Writer:
    """Structures without an element around them. Versions that are delete markers have a name of their own."""
    name, other = member.wire_name, "DeleteMarker" if member.name == "Versions" else member.wire_name
    one_of = {name: _element(name, None, shape, style, known), other: _element(other, None, shape, style, known)}

    def element(value: Mapping[str, Any]) -> str:
        return other if value.get("DeleteMarker") else name

    columns = {one.name: _column(one, style) for one in shape.members.values() if not (one.location or one.attribute)}
    table = TableWriter(element, columns, _structure(shape, style, known))

    def write_elements(parts: list[str], value: Table | Sequence[Mapping[str, Any]]) -> None:
        if isinstance(value, Table):
            table(parts, value)
            return
        for one in value:
            one_of[element(one)](parts, one)

    return write_elements


def _column(member: Member, style: _Style) -> Column | None:
    """How the member is written in a table; None for what can't be a column of one."""
    start, end, kind = f"<{member.wire_name}>", f"</{member.wire_name}>", member.shape.kind
    if kind == "timestamp":
        return Column(start, end, iso8601_all)
    if kind in ("integer", "long"):
        return Column(start, end, lambda numbers: numbers)
    if kind != "string":
        return None
    if member.shape.name == "ETag" and style.quote_etags:
        return Column(f"{start}&quot;", f"&quot;{end}", escape_all)
    encoded = style.url_encode_keys and member.name in _ENCODED_MEMBERS
    return Column(start, end, url_encode_all if encoded else escape_all)


def _element(name: str, member: Member | None, shape: Shape, style: _Style, known: dict[str, _Writer]) -> _Writer:
    close = f"</{name}>"
    if shape.kind == "structure":
        children = _structure(shape, style, known)
        attributes = [(one.name, one.wire_name) for one in shape.members.values() if one.attribute]
        if attributes:
            return _with_attributes(name, member, children, attributes)
        start = f"<{name}>"

        def write_structure(parts: list[str], value: Any) -> None:
            parts.append(start)
            children(parts, value)
            parts.append(close)

        return write_structure
    start, text = f"<{name}>", _text_of(member, shape, style)

    def write_leaf(parts: list[str], value: Any) -> None:
        parts.append(f"{start}{text(value)}{close}")

    return write_leaf


def _with_attributes(name: str, member: Member | None, children: _Writer, attributes: list[tuple[str, str]]) -> _Writer:
    prefix, uri = member.namespace if member is not None else ("", "")
    namespace = f' xmlns:{prefix}="{uri}"' if prefix else ""

    def write(parts: list[str], value: Any) -> None:
        written = "".join(
            f' {wire}="{escape(str(value[one]))}"' for one, wire in attributes if value.get(one) is not None
        )
        parts.append(f"<{name}{namespace}{written}>")
        children(parts, value)
        parts.append(f"</{name}>")

    return write


def _header_field(member: Member) -> _HeaderField:
    if member.location == "headers":
        return member.wire_name, None
    return member.wire_name, _header_text(member.shape, member.shape.kind)


def _header_text(shape: Shape, kind: str) -> Callable[[Any], str]:
    if kind == "boolean":
        return lambda value: "true" if value else "false"
    if kind == "timestamp":
        moment = iso8601 if shape.timestamp_format == "iso8601" else http_date
        return lambda value: value if isinstance(value, str) else moment(value)
    if shape.name == "ETag":
        return quoted_etag
    if kind == "list":
        return ",".join
    return str


def render_error(
    code: str, message: str, fields: Mapping[str, str], resource: str, request_id: str, host_id: str
) -> bytes:
    """An error document. What XML can't carry is shown as U+FFFD: the code must be readable whatever is quoted."""
    extra = "".join(f"<{name}>{shown(value)}</{name}>" for name, value in fields.items())
    return (
        f"{_DECLARATION}<Error><Code>{escape(code)}</Code><Message>{shown(message)}</Message>{extra}"
        f"<Resource>{shown(resource)}</Resource><RequestId>{request_id}</RequestId><HostId>{host_id}</HostId></Error>"
    ).encode()
