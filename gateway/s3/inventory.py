"""What the S3 edge does of Amazon's model, as a table for people. The code is the source, so the table can't lie."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from gateway.s3.handlers import IMPLEMENTED
from gateway.s3.model import Operation, ServiceModel
from gateway.s3.refusals import REFUSED
from gateway.s3.routing import SAME_REQUEST
from gateway.s3.unset import UNSET

BEGIN = "<!-- operations:begin -->"
END = "<!-- operations:end -->"

# Known by name only: what a general-purpose endpoint never receives.
_ELSEWHERE = {
    "WriteGetObjectResponse": "answers 501; belongs to Object Lambda endpoints",
    "CreateSession": "answers 501; belongs to directory buckets",
}


def state(operation: Operation, implemented: Collection[str]) -> tuple[str, str]:
    """(state, remark) of one operation: done, unset, same or refused."""
    name = operation.name
    if name in implemented:
        refused = sorted({REFUSED[one].topic for one in operation.input.members if one in REFUSED})
        return "done", f"refuses {'; '.join(refused)}" if refused else ""
    if name in SAME_REQUEST:
        return "same", f"the same request as {SAME_REQUEST[name]}"
    if name in UNSET:
        unset = UNSET[name]
        return "unset", f"answers {unset.code}" if unset.code else "answers an empty configuration"
    return "refused", _ELSEWHERE.get(name, "answers 501 NotImplemented")


def render_table(model: ServiceModel, implemented: Collection[str]) -> str:
    """The Markdown table of every operation, between the markers and with them; `implemented` are the names that have
    handlers."""
    rows = [BEGIN, ""]
    counts: dict[str, int] = {}
    lines = []
    for name in sorted(model.operations):
        operation = model.operations[name]
        word, remark = state(operation, implemented)
        counts[word] = counts.get(word, 0) + 1
        query = "&".join(f"{key}={value}" if value else key for key, value in operation.markers.items())
        target = operation.path + (f"?{query}" if query else "")
        lines.append(f"| {name} | `{operation.method} {target}` | {word} | {remark} |")
    total = ", ".join(f"{counts[word]} {word}" for word in ("done", "unset", "same", "refused") if word in counts)
    rows.append(f"{len(model.operations)} operations: {total}.")
    rows += ["", "| operation | request | state | remark |", "|---|---|---|---|", *lines, "", END]
    return "\n".join(rows)


def replace_table(document: str, table: str) -> str:
    """The document with its section between the markers replaced. Raises ValueError where it has none."""
    start, end = document.find(BEGIN), document.find(END)
    if start < 0 or end < start:
        raise ValueError(f"the document has no {BEGIN} … {END}")
    return document[:start] + table + document[end + len(END) :]


def main(arguments: Sequence[str]) -> None:
    """Renew the table in each of the named documents."""
    model = ServiceModel.load()
    for name in arguments:
        path = Path(name)
        path.write_text(replace_table(path.read_text(), render_table(model, IMPLEMENTED)))


if __name__ == "__main__":
    main(sys.argv[1:])
