"""Placement over a fixed list of nodes: which are up, how fast they answer, where new pieces go."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from backends.errors import AlreadyExists, BackendError, NoSpace, NotFound, PermanentError, Unreadable
from engine.ports import Node

#: Failures in a row (of a kind that may pass) after which a node counts as down.
PATIENCE = 3
#: Seconds between looks at a node that is down or that said *not found*.
PROBE_INTERVAL = 2.0
#: Seconds for which a capacity figure is believed.
CAPACITY_AGE = 5.0
#: A node that was full takes pieces again when this many bytes are free, or a 32nd of a small disk.
_ROOM_AGAIN = 64 << 20
_MIN_LATENCY = 0.02
_FIRST_LATENCY = 0.5


@dataclass(slots=True)
class _State:
    node: Node
    up: bool = True
    failures: int = 0
    mean: float = 0.0  # of read seconds, exponentially weighted
    deviation: float = 0.0
    samples: int = 0
    free: int | None = None  # bytes; None: not asked yet
    full: bool = False  # the last put said NoSpace
    checked: float = 0.0  # monotonic
    doubtful: bool = False  # something odd was answered: look at the node soon
    last_error: str = ""
    leaving: bool = False  # gets no new pieces
    load: int = field(default=0)  # pieces given lately, to spread equals


class LocalPlacer:
    """A `Placer` over nodes that are configured, not discovered; they may come and go while it works.

    Spreads the pieces of a segment over domains first, then prefers nodes with the most free space. A node goes down
    at a permanent error, or at `PATIENCE` passing ones in a row, and comes up when its backend opens again
    (`probe`, called by the health worker).
    """

    def __init__(self, nodes: Sequence[Node], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        if len({node.id for node in nodes}) != len(nodes):
            raise ValueError("two nodes have the same id")
        self._states = {node.id: _State(node) for node in nodes}
        self._monotonic = monotonic
        self._turn = 0

    def nodes(self) -> list[Node]:
        return [state.node for state in self._states.values()]

    def node(self, node_id: bytes) -> Node | None:
        state = self._states.get(node_id)
        return state.node if state else None

    def node_up(self, node_id: bytes) -> Node | None:
        state = self._states.get(node_id)
        return state.node if state is not None and state.up else None

    def is_up(self, node_id: bytes) -> bool:
        state = self._states.get(node_id)
        return state is not None and state.up

    def last_error(self, node_id: bytes) -> str:
        """Why a node is down, for `status`."""
        state = self._states.get(node_id)
        return state.last_error if state else ""

    def free(self, node_id: bytes) -> int:
        """Bytes that may still be written to a node, as it last said; 0 when it was not asked yet."""
        state = self._states.get(node_id)
        return state.free or 0 if state else 0

    def add(self, node: Node) -> None:
        """A node more, or another way to one that is known. It counts as up until a call or a probe tells otherwise."""
        former = self._states.get(node.id)
        self._states[node.id] = _State(node, leaving=former is not None and former.leaving)

    def remove(self, node_id: bytes) -> None:
        """Forget a node; what pieces it holds can't be read any more."""
        self._states.pop(node_id, None)

    def leaving(self, node_id: bytes) -> bool:
        """Whether a node gets no new pieces because it is to go."""
        state = self._states.get(node_id)
        return state is not None and state.leaving

    def set_leaving(self, node_id: bytes, leaving: bool) -> None:
        """Give a node no new pieces from now on, or give it some again."""
        self._states[node_id].leaving = leaving

    def set_up(self, node_id: bytes, up: bool) -> None:
        """Take a node out of service, or back."""
        state = self._states[node_id]
        state.up, state.failures = up, 0
        if up:
            state.last_error, state.full, state.free, state.checked = "", False, None, 0.0

    def choose(self, count: int, *, size: int, exclude: Sequence[bytes] = ()) -> list[Node]:
        by_domain: dict[str, list[_State]] = defaultdict(list)
        for state in self._states.values():
            if state.up and not state.leaving and state.node.id not in exclude and self._has_room(state, size):
                by_domain[state.node.domain].append(state)
        self._turn += 1
        for states in by_domain.values():
            states.sort(key=lambda state: (state.load, -(state.free or 0)))
        # Domains take turns, the one whose best node got least lately first.
        order = sorted(by_domain.values(), key=lambda states: states[0].load)
        chosen: list[_State] = []
        while order and len(chosen) < count:
            for states in order:
                if len(chosen) < count:
                    chosen.append(states.pop(0))
            order = [states for states in order if states]
        for state in chosen:
            state.load += 1
        if self._turn % 1024 == 0:
            least = min((state.load for state in self._states.values()), default=0)
            for state in self._states.values():
                state.load -= least
        return [state.node for state in chosen]

    def _has_room(self, state: _State, size: int) -> bool:
        return not state.full and (state.free is None or state.free >= size)

    def observe(self, node_id: bytes, *, ok: bool, seconds: float, error: BaseException | None = None) -> None:
        state = self._states.get(node_id)
        if state is None:
            return
        if ok:
            state.failures = 0
            if state.samples == 0:
                state.mean, state.deviation = seconds, seconds / 2
            else:
                difference = seconds - state.mean
                state.mean += difference * 0.1
                state.deviation += (abs(difference) - state.deviation) * 0.1
            state.samples += 1
            return
        if isinstance(error, NotFound | AlreadyExists | Unreadable):
            state.doubtful = True  # one lost or rotten piece, or a folder that is gone: the next probe tells
            return
        if isinstance(error, NoSpace):
            state.full, state.doubtful = True, True
            return
        state.failures += 1
        state.doubtful = True
        if isinstance(error, PermanentError) or state.failures >= PATIENCE:
            state.up = False
            state.last_error = str(error) if isinstance(error, BackendError) else type(error).__name__

    def expected_latency(self, node_id: bytes) -> float:
        state = self._states.get(node_id)
        if state is None or state.samples < 8:
            return _FIRST_LATENCY
        return max(_MIN_LATENCY, state.mean + 5 * state.deviation)

    async def probe(self, *, force: bool = False) -> int:
        """Look at the nodes that are down or doubtful, and at capacities that are old; returns how many came up."""
        now = self._monotonic()
        due = [
            state
            for state in self._states.values()
            if force
            or ((not state.up or state.doubtful) and now - state.checked >= PROBE_INTERVAL)
            or now - state.checked >= CAPACITY_AGE
        ]
        before = sum(state.up for state in due)
        await asyncio.gather(*(self._look(state) for state in due))
        return max(0, sum(state.up for state in due) - before)

    async def _look(self, state: _State) -> None:
        state.checked = self._monotonic()
        state.doubtful = False
        try:
            async with asyncio.timeout(10):
                await state.node.backend.open()
                capacity = await state.node.backend.capacity()
        except (BackendError, OSError, TimeoutError) as error:
            state.up = False
            state.last_error = str(error) or type(error).__name__
            return
        state.free = capacity.free
        state.full = state.full and capacity.free < min(_ROOM_AGAIN, capacity.total // 32)
        if not state.up:
            state.up, state.failures, state.last_error = True, 0, ""
