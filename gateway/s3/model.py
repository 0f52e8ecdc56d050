"""Amazon's S3 service model, as botocore ships it, read into plain objects once at start-up."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl

from botocore.loaders import Loader

XML_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class Level(enum.IntEnum):  # a plain enumeration's hash is a call
    """What the path of an operation addresses."""

    SERVICE = 0
    BUCKET = 1
    OBJECT = 2


@dataclass(slots=True)
class Shape:
    """A type of the model. `kind` is the model's: structure, list, map, string, integer, long, boolean, timestamp,
    blob."""

    name: str
    kind: str
    members: dict[str, Member] = field(default_factory=dict)  # of a structure, in the model's order
    required: tuple[str, ...] = ()
    item: Shape | None = None  # of a list
    item_name: str = "member"
    flattened: bool = False
    timestamp_format: str = ""
    enum: tuple[str, ...] = ()
    event_stream: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a structure. `location` is "", "uri", "querystring", "header" or "headers" (a prefix)."""

    name: str
    shape: Shape
    location: str
    wire_name: str
    flattened: bool
    attribute: bool
    namespace: tuple[str, str]  # (prefix, URI) declared on the element; empty strings for none


@dataclass(frozen=True, slots=True)
class Operation:
    """One of the model's operations and what a request must have to be it."""

    name: str
    method: str
    level: Level
    path: str
    markers: Mapping[str, str]  # query members that the URI itself has, such as {"list-type": "2"}
    required_query: frozenset[str]
    required_headers: frozenset[str]  # lower-case
    input: Shape
    output: Shape
    payload: str  # input member that is the body, "" for none
    output_payload: str
    status: int
    deprecated: bool
    authenticated: bool

    @property
    def streams_in(self) -> bool:
        """Whether the body is the client's bytes rather than a document."""
        return bool(self.payload) and self.input.members[self.payload].shape.kind == "blob"

    @property
    def query_members(self) -> dict[str, Member]:
        return {one.wire_name: one for one in self.input.members.values() if one.location == "querystring"}


_EMPTY = Shape("", "structure")


class ServiceModel:
    """The whole model: operations by name."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._shapes: dict[str, Shape] = {}
        self.operations: dict[str, Operation] = {
            name: self._operation(name, raw) for name, raw in document["operations"].items()
        }

    @classmethod
    def load(cls) -> Self:
        """The model in the installed botocore."""
        return cls(Loader().load_service_model("s3", "service-2"))

    def markers(self) -> frozenset[str]:
        """Every query member that is part of some operation's URI."""
        return frozenset(name for one in self.operations.values() for name in one.markers)

    def _operation(self, name: str, raw: Mapping[str, Any]) -> Operation:
        http = raw["http"]
        path, _, query = http["requestUri"].partition("?")
        shape = self._shape(raw["input"]["shape"]) if "input" in raw else _EMPTY
        output = self._shape(raw["output"]["shape"]) if "output" in raw else _EMPTY
        required = [shape.members[one] for one in shape.required]
        if "{Key+}" in path:
            level = Level.OBJECT
        elif "{Bucket}" in path:
            level = Level.BUCKET
        else:
            level = Level.SERVICE
        return Operation(
            name=name,
            method=http["method"],
            level=level,
            path=path,
            markers=dict(parse_qsl(query, keep_blank_values=True)),
            required_query=frozenset(one.wire_name for one in required if one.location == "querystring"),
            required_headers=frozenset(one.wire_name.lower() for one in required if one.location == "header"),
            input=shape,
            output=output,
            payload=self._raw(raw["input"]["shape"]).get("payload", "") if "input" in raw else "",
            output_payload=self._raw(raw["output"]["shape"]).get("payload", "") if "output" in raw else "",
            status=http.get("responseCode", 200),
            deprecated=bool(raw.get("deprecated")),
            authenticated=raw.get("authtype") != "none",
        )

    def _raw(self, name: str) -> Mapping[str, Any]:
        raw: Mapping[str, Any] = self._document["shapes"][name]
        return raw

    def _shape(self, name: str) -> Shape:
        known = self._shapes.get(name)
        if known is not None:
            return known
        raw = self._raw(name)
        shape = Shape(name, raw["type"])
        self._shapes[name] = shape  # before its members: shapes may contain themselves
        shape.required = tuple(raw.get("required", ()))
        shape.flattened = bool(raw.get("flattened"))
        shape.timestamp_format = raw.get("timestampFormat", "")
        shape.enum = tuple(raw.get("enum", ()))
        shape.event_stream = bool(raw.get("eventstream"))
        if shape.kind == "list":
            shape.item = self._shape(raw["member"]["shape"])
            shape.item_name = raw["member"].get("locationName", "member")
        for member_name, member in raw.get("members", {}).items():
            inner = self._shape(member["shape"])
            space = member.get("xmlNamespace") or self._raw(member["shape"]).get("xmlNamespace") or {}
            shape.members[member_name] = Member(
                name=member_name,
                shape=inner,
                location=member.get("location", ""),
                wire_name=member.get("locationName", member_name),
                flattened=bool(member.get("flattened")) or inner.flattened,
                attribute=bool(member.get("xmlAttribute")),
                namespace=(space.get("prefix", ""), space.get("uri", "")),
            )
        return shape
