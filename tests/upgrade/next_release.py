"""`python next_release.py expand|contract COMMAND…`: the tree's program as a later release of it could be.

`expand`: its tables have a column more, its records of buckets a field more and a compatible bit. `contract`: after
that, it takes the column away again, which a program that knows only the former tables could not live with.
"""

from __future__ import annotations

import sys

from catalog.postgres_engine import schema
from catalog.postgres_engine.schema import STEPS, Step
from catalog.records import Codec, Flags
from engine import records

FIELD = "of the next release"
BIT = 1
EXPANSION = Step(STEPS[-1].number + 1, 1, always=("ALTER TABLE atoll_rows ADD COLUMN IF NOT EXISTS next bytea",))
CONTRACTION = Step(
    EXPANSION.number + 1, EXPANSION.number + 1, always=("ALTER TABLE atoll_rows DROP COLUMN IF EXISTS next",)
)


class NextBucketRow(records.BucketRow, tag=1, kw_only=True, frozen=True):
    """With a field more. All new ones also have a compatible bit."""

    flags: Flags | None = Flags(compatible=BIT)
    added: str = FIELD


def become(steps: tuple[Step, ...]) -> None:
    """Before anything else of the program is loaded."""
    assert schema.prepare.__kwdefaults__ is not None
    schema.prepare.__kwdefaults__["steps"] = (*STEPS, *steps)
    session = schema.SESSION_NAME.replace(str(schema.SCHEMA), str(steps[-1].number))
    vars(schema).update(SESSION_NAME=session)
    vars(records).update(BucketRow=NextBucketRow, BUCKET_ROW=Codec(NextBucketRow))


if __name__ == "__main__":
    become({"expand": (EXPANSION,), "contract": (EXPANSION, CONTRACTION)}[sys.argv.pop(1)])
    from gateway.wiring.main import main

    main()
