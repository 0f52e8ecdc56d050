"""The gate before a process's transactions, shut while its catalog is being moved to another place."""

from __future__ import annotations

from catalog.errors import CatalogMoving
from catalog.waiters import SequenceWaiters


class CommitGate:
    """An engine lets every transaction through its gate, from `enter` to `leave`. Belongs to the event loop."""

    __slots__ = ("_inside", "_left", "_why")

    def __init__(self) -> None:
        self._inside = 0
        self._why = ""
        self._left = SequenceWaiters()

    @property
    def shut(self) -> bool:
        """Whether transactions are refused."""
        return bool(self._why)

    def enter(self) -> None:
        """A transaction begins. Raises CatalogMoving while the gate is shut."""
        if self._why:
            raise CatalogMoving(self._why)
        self._inside += 1

    def leave(self) -> None:
        """A transaction ended, however."""
        self._inside -= 1
        if self._why and not self._inside:
            self._left.wake()

    async def close(self, why: str) -> None:
        """Refuse further transactions, and wait until those under way have ended."""
        self._why = why
        while self._inside:
            await self._left.wait()

    def reopen(self) -> None:
        """Let transactions through again."""
        self._why = ""
