"""Pieces that this process wrote and nothing will ever reference: deleted soon, or with our epoch at the latest."""

from __future__ import annotations

from collections import deque


class Trash:
    """An in-memory list of (node id, locator). Bounded: what overflows is found later by the epoch in its name."""

    def __init__(self, limit: int = 100_000) -> None:
        self._pieces: deque[tuple[bytes, bytes]] = deque(maxlen=limit)

    def add(self, node_id: bytes, locator: bytes) -> None:
        self._pieces.append((node_id, locator))

    def take(self, limit: int) -> list[tuple[bytes, bytes]]:
        """Remove and return up to `limit`, oldest first."""
        return [self._pieces.popleft() for _ in range(min(limit, len(self._pieces)))]

    def __len__(self) -> int:
        return len(self._pieces)
