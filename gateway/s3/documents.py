"""XML payloads to members: expat driven by a plan compiled from the model's shapes.

Hostile documents end at the parser: no document type, no entities beyond XML's five, no processing instructions; size,
depth and number of elements are limited. Namespaces are accepted and ignored. What the schema does not have is refused
as S3 does (MalformedXML), because skipping an element could drop a condition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn
from xml.parsers import expat

from gateway.s3.errors import S3Error
from gateway.s3.model import Operation, Shape
from gateway.s3.values import parse_iso8601

#: Bytes that a payload may have, by operation; Complete lists 10,000 parts with two digests each.
LIMIT = 1 << 20
LIMITS = {"CompleteMultipartUpload": 8 << 20, "DeleteObjects": 4 << 20}

_MAX_DEPTH = 24
_MAX_ELEMENTS = 200_000

# Clients send back whole parts of ListParts here; facts beside number, ETag and checksums change nothing.
_LENIENT = frozenset({"CompletedPart"})


@dataclass(slots=True)
class _Plan:
    """What may be inside one element. Leaves have `convert`, structures `children`."""

    children: dict[str, _Child] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)  # wire name -> member
    required: tuple[str, ...] = ()
    convert: Callable[[str], Any] | None = None
    lenient: bool = False
    list_item: str = ""  # of an unflattened list: the name of its items


@dataclass(slots=True)
class _Child:
    member: str
    plan: _Plan
    repeated: bool  # an item of a list: flattened into its parent, or inside its list element


class DocumentParser:
    """Parses the payload of one operation."""

    def __init__(self, operation: Operation) -> None:
        member = operation.input.members[operation.payload]
        self.member = member.name
        self.required = member.name in operation.input.required
        self.limit = LIMITS.get(operation.name, LIMIT)
        self._root = member.wire_name
        self._plan = _plan(member.shape, {})

    def parse(self, data: bytes | bytearray) -> dict[str, Any]:
        """The payload member's value. Raises S3Error MalformedXML."""
        return _Run(self._root, self._plan).parse(bytes(data))


def _plan(shape: Shape, known: dict[str, _Plan]) -> _Plan:
    if shape.name in known:
        return known[shape.name]
    plan = known[shape.name] = _Plan()
    if shape.kind == "structure":
        plan.required = shape.required
        plan.lenient = shape.name in _LENIENT
        for member in shape.members.values():
            if member.attribute:
                plan.attributes[member.wire_name] = member.name
            elif member.shape.kind == "list" and member.flattened:
                assert member.shape.item is not None
                plan.children[member.wire_name] = _Child(member.name, _plan(member.shape.item, known), True)
            else:
                plan.children[member.wire_name] = _Child(member.name, _plan(member.shape, known), False)
    elif shape.kind == "list":
        assert shape.item is not None
        plan.list_item = shape.item_name
        plan.children[shape.item_name] = _Child("", _plan(shape.item, known), True)
    else:
        plan.convert = _CONVERT.get(shape.kind, str)
    return plan


def malformed() -> S3Error:
    return S3Error("MalformedXML")


def _integer(text: str) -> int:
    text = text.strip()
    digits = text[1:] if text[:1] in "+-" else text
    if not digits.isascii() or not digits.isdigit() or len(digits) > 19:
        raise malformed()
    return int(text)


def _boolean(text: str) -> bool:
    text = text.strip().lower()
    if text not in ("true", "false"):
        raise malformed()
    return text == "true"


def _moment(text: str) -> Any:
    moment = parse_iso8601(text)
    if moment is None:
        raise malformed()
    return moment


_CONVERT: dict[str, Callable[[str], Any]] = {
    "integer": _integer,
    "long": _integer,
    "boolean": _boolean,
    "timestamp": _moment,
}

# Open element: its plan, the value under construction, where it goes when it ends.
_Frame = tuple[_Plan, Any, "_Child | None"]


class _Run:
    """One document going through expat."""

    def __init__(self, root: str, plan: _Plan) -> None:
        self._root_name, self._root_plan = root, plan
        self._stack: list[_Frame] = []
        self._text: list[str] = []
        self._result: Any = None
        self._elements = 0
        self._skipping = 0

    def parse(self, data: bytes) -> dict[str, Any]:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse
        parser.EntityDeclHandler = _refuse
        parser.ProcessingInstructionHandler = _refuse
        parser.ExternalEntityRefHandler = _refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        try:
            parser.Parse(data, True)
        except (expat.ExpatError, ValueError, LookupError):
            raise malformed() from None
        if not isinstance(self._result, dict):
            raise malformed()
        return self._result

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > _MAX_ELEMENTS or len(self._stack) + self._skipping >= _MAX_DEPTH:
            raise malformed()
        if self._skipping:
            self._skipping += 1
            return
        name = tag.rpartition(":")[2]
        child: _Child | None = None
        if self._stack:
            parent, _, _ = self._stack[-1]
            child = parent.children.get(name)
            if child is None:
                if not parent.lenient:
                    raise malformed()
                self._skipping = 1
                return
            plan = child.plan
            if self._text and parent.convert is None:
                self._require_blank()
        else:
            if name != self._root_name:
                raise malformed()
            plan = self._root_plan
        value: Any = None
        if plan.convert is None:
            value = [] if plan.list_item else {}
            for wire_name, member in plan.attributes.items():
                if wire_name in attributes:
                    value[member] = attributes[wire_name]
        self._text.clear()
        self._stack.append((plan, value, child))

    def _end(self, tag: str) -> None:
        if self._skipping:
            self._skipping -= 1
            self._text.clear()
            return
        plan, value, child = self._stack.pop()
        if plan.convert is not None:
            value = plan.convert("".join(self._text))
            self._text.clear()
        else:
            if self._text:
                self._require_blank()
            for member in plan.required:
                if member not in value:
                    raise malformed()
        if child is None:
            self._result = value
            return
        parent, owner, _ = self._stack[-1]
        if parent.list_item:
            owner.append(value)
        elif child.repeated:
            owner.setdefault(child.member, []).append(value)
        elif child.member in owner:
            raise malformed()
        else:
            owner[child.member] = value

    def _require_blank(self) -> None:
        if "".join(self._text).strip():
            raise malformed()
        self._text.clear()


def _refuse(*_: Any) -> NoReturn:
    raise malformed()
