"""Two catalogs, one of which is to become the other."""

from __future__ import annotations

import random
from dataclasses import dataclass

from catalog.copying.copier import Copier, CopyProgress
from catalog.copying.movable import Movable
from catalog.copying.moving import Move, claim
from catalog.copying.rows import LISTED
from catalog.errors import CopyRefused
from catalog.interface import Catalog, Row
from catalog.keys import u64
from catalog.prefixes import ENGINE, EPOCH, LEASE
from core.clock import SystemClock

DEPLOYMENT = b"d" * 16
#: Also keys that LMDB takes apart, and values of the size of staged bodies.
ROWS: list[Row] = [
    (ENGINE + u64(i) + b"k" * (i % 7 * 200), random.Random(i).randbytes(60_000 if i % 97 == 0 else i % 300))
    for i in range(0, 4000, 2)
]


@dataclass
class Pair:
    """A source with rows, and an empty target of the other engine."""

    source: Movable
    target: Catalog

    async def copier(self) -> Copier:
        return Copier(self.source, self.target, await claim(self.target, DEPLOYMENT), CopyProgress())

    async def move(self, *, shut_seconds: float = 30, alone: bool = True) -> Move:
        async def require() -> None:
            if not alone:
                raise CopyRefused("others use it")

        mark = await claim(self.target, DEPLOYMENT)
        return Move(
            self.source, self.target, mark=mark, consumer=u64(1), place="elsewhere", clock=SystemClock(),
            alone=require, shut_seconds=shut_seconds,
        )  # fmt: skip

    async def same(self) -> bool:
        return await contents(self.source) == await contents(self.target)


async def contents(catalog: Catalog) -> list[Row]:
    """Every row that a copy must have."""
    kept: list[Row] = []
    async for rows in catalog.export():
        kept += [(key, value) for key, value in rows if key >= LISTED or key[:1] in (LEASE, EPOCH)]
    return kept
