"""Long lists in answers, written a column at a time.

The thousand elements of a listing's page differ in a key, a time, an ETag and a size; the rest is the same in all of
them or comes in a few kinds. So the element is written once for each kind, with places left for what differs, and
those are filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import mod
from typing import Any


@dataclass(frozen=True, slots=True)
class Table:
    """Elements of one list, to be given in an output instead of a list of mappings.

    `columns` has the members that differ, with their values row by row: texts, whole numbers, times in microseconds
    since the epoch, bare ETags. `kinds` has each row's index in `shared`, which has the other members of that kind
    of rows; a column's name in it, with None, leaves the column out of them.
    """

    columns: Mapping[str, Sequence[Any]]
    kinds: Sequence[int]
    shared: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Column:
    """How a member is written as a column: between `start` and `end` the texts (or numbers) that `texts` gives."""

    start: str
    end: str
    texts: Callable[[Sequence[Any]], Sequence[Any]]


class TableWriter:
    """Writes the tables of one list of structures."""

    def __init__(
        self,
        element: Callable[[Mapping[str, Any]], str],
        members: Mapping[str, Column | None],
        write: Callable[[list[str], Mapping[str, Any]], None],
    ) -> None:
        """`element` names the element of a kind; `members` are the structure's in the model's order, without a Column
        where they can't be one; `write` writes given members of the structure."""
        self._element, self._members, self._write = element, members, write

    def __call__(self, parts: list[str], table: Table) -> None:
        columns = {name: column for name, column in self._members.items() if column and name in table.columns}
        templates = [self._template(columns, shared) for shared in table.shared]
        texts = [column.texts(table.columns[name]) for name, column in columns.items()]
        parts.extend(map(mod, map(templates.__getitem__, table.kinds), zip(*texts, strict=True)))

    def _template(self, columns: Mapping[str, Column], shared: Mapping[str, Any]) -> str:
        """The element for the % operator, which takes a text for each of the columns."""
        name = self._element(shared)
        template = f"<{name}>"
        for member in self._members:
            column = columns.get(member)
            if column is None:
                written: list[str] = []
                self._write(written, {member: shared.get(member)})
                template += "".join(written).replace("%", "%%")
            elif member in shared:
                template += "%.0s"  # takes the text and prints nothing of it
            else:
                template += f"{column.start}%s{column.end}"
        return f"{template}</{name}>"
