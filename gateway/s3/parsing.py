"""Requests to members: one parser per operation, compiled from the model at start-up.

Path, query and headers are parsed before the handler runs; the XML payload (`gateway/s3/documents.py`) when the handler
asks for it. Enumerations are left to handlers, which know which of S3's codes an unknown value gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.http.conditionals import parse_http_date
from gateway.s3.errors import S3Error
from gateway.s3.model import Level, Member, Operation
from gateway.s3.refusals import REFUSED, refuse
from gateway.s3.values import invalid, parse_boolean, parse_integer, parse_timestamp

#: Puts one wire value into params.
Setter = Callable[[dict[str, Any], str], None]

# Kept as the client wrote them: S3 gives them back unread, and they need not be dates.
_TEXT_SHAPES = frozenset({"Expires", "ResponseExpires"})
# A condition whose date is no date is void (RFC 9110, 13.1.3 and 13.1.4).
_VOID_IF_INVALID = frozenset({"IfModifiedSince", "IfUnmodifiedSince"})
# The edge and RequestBody deal with these.
_SKIPPED = frozenset({"Bucket", "Key", "ContentLength"})
_OVERRIDE_PREFIX = "response-"


class RequestParser:
    """Parses what surrounds the body of one operation's requests."""

    __slots__ = ("_headers", "_metadata", "_operation", "_query", "_required")

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._headers: dict[str, Setter] = {}
        self._query: dict[str, Setter] = {}
        self._metadata = ""
        for member in operation.input.members.values():
            if member.name in _SKIPPED:
                continue
            if member.location == "header":
                self._headers[member.wire_name.lower()] = _setter(member)
            elif member.location == "querystring":
                self._query[member.wire_name] = _setter(member)
            elif member.location == "headers":
                self._metadata = member.wire_name.lower()
        self._required = tuple(
            (name, operation.input.members[name].wire_name)
            for name in operation.input.required
            if operation.input.members[name].location in ("header", "querystring")
        )

    def parse(self, bucket: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, Any]:
        """Members from path, query and headers (by lower-case name). Raises S3Error InvalidArgument,
        NotImplemented (see refusals), InvalidRequest for a missing member."""
        params: dict[str, Any] = {}
        level = self._operation.level
        if level is not Level.SERVICE:
            params["Bucket"] = bucket
            if level is Level.OBJECT:
                params["Key"] = key
        setters = self._query
        if query and setters:
            for name, value in query.items():
                setter = setters.get(name)
                if setter is not None:
                    setter(params, value)
        setters, prefix = self._headers, self._metadata
        # most reads have no header that says anything of them
        for name, value in headers.items() if prefix or not setters.keys().isdisjoint(headers) else ():
            setter = setters.get(name)
            if setter is not None:
                setter(params, value)
            elif prefix and name.startswith(prefix):
                params.setdefault("Metadata", {})[name[len(prefix) :]] = value
        for member, wire_name in self._required:
            if member not in params:
                raise S3Error("InvalidRequest", f"Missing required header or parameter for this request: {wire_name}")
        return params


def _setter(member: Member) -> Setter:
    name, wire, kind = member.name, member.wire_name, member.shape.kind
    if name in REFUSED:
        return _refusing(member)
    if kind in ("integer", "long"):
        long = kind == "long"

        def set_integer(params: dict[str, Any], value: str) -> None:
            if value:  # an empty max-keys is an absent one
                params[name] = parse_integer(wire, value, long=long)

        return set_integer
    if kind == "boolean":

        def set_boolean(params: dict[str, Any], value: str) -> None:
            if value:
                params[name] = parse_boolean(wire, value)

        return set_boolean
    if kind == "timestamp" and member.shape.name not in _TEXT_SHAPES:
        return _timestamp(name, wire)
    if kind == "list":

        def set_list(params: dict[str, Any], value: str) -> None:
            params[name] = [one for one in map(str.strip, value.split(",")) if one]

        return set_list
    if wire.startswith(_OVERRIDE_PREFIX):

        def set_override(params: dict[str, Any], value: str) -> None:
            try:
                value.encode("latin-1")
            except UnicodeEncodeError:
                raise invalid(wire, value, "Header value cannot be represented using ISO-8859-1.") from None
            if "\r" in value or "\n" in value or "\0" in value:
                raise invalid(wire, value, "Header value must not contain control characters.")
            params[name] = value

        return set_override

    if name == "ContentEncoding":
        return _set_content_encoding

    def set_text(params: dict[str, Any], value: str) -> None:
        params[name] = value

    return set_text


def _set_content_encoding(params: dict[str, Any], value: str) -> None:
    # aws-chunked is how the body travels, not what it is
    kept = [one for one in map(str.strip, value.split(",")) if one and one.lower() != "aws-chunked"]
    if kept:
        params["ContentEncoding"] = ", ".join(kept)


def _timestamp(name: str, wire: str) -> Setter:
    if name in _VOID_IF_INVALID or name.startswith("CopySourceIf"):

        def set_condition(params: dict[str, Any], value: str) -> None:
            moment = parse_http_date(value)
            if moment is not None:
                params[name] = moment

        return set_condition

    def set_timestamp(params: dict[str, Any], value: str) -> None:
        params[name] = parse_timestamp(wire, value)

    return set_timestamp


def _refusing(member: Member) -> Setter:
    name, wire, boolean = member.name, member.wire_name, member.shape.kind == "boolean"

    def set_or_refuse(params: dict[str, Any], value: str) -> None:
        refuse(name, wire, value)
        params[name] = parse_boolean(wire, value) if boolean else value

    return set_or_refuse
