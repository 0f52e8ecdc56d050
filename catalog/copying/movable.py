"""What an engine gives beyond the catalog's interface, so that a catalog in it can be moved away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from catalog.gate import CommitGate
from catalog.interface import Catalog, Row


class Movable(Catalog, Protocol):
    """A catalog that can be moved away."""

    @property
    def gate(self) -> CommitGate:
        """What this process's transactions go through."""
        ...

    async def retire(self, mark: Row, *, sequence: int, unchanged: Sequence[Row]) -> bool:
        """Put the row `mark` and refuse every write of any process from then on, durably; only while the gate is shut,
        and with no view of this catalog open. False, with nothing done, where something was committed after `sequence`
        or one of the rows `unchanged` has another value. Raises CatalogUnavailable or CatalogFull with nothing done;
        CommitUnknown and CatalogFailed leave open whether it was."""
        ...

    async def unretire(self) -> None:
        """Take writes again. The mark stays."""
        ...
