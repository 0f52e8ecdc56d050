"""Writes golden.json, once for a format: `python -m tests.snapshots.make_golden`. A chain of two parts, the first one
coded 4+2, the second one 1+2."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from engine.snapshots.parts import Content, Facts, SealedPart, first_link, seal_part, shards_of
from erasure.scheme import Scheme
from tests.snapshots.world import ROOT, keys_of

CHAIN = 7
FIRST = Content(
    puts=[(b"\x10first", b"value"), (b"\x20second", b"")],
    deletes=[b"\x10gone"],
    epochs=[(b"\x04n", b"1")],
    ceiling=43,
)
SECOND = Content(puts=[(b"\x10first", b"other")], deletes=[b"\x20second"], epochs=[(b"\x04n", b"2")], ceiling=51)


def main() -> None:
    deployment = os.urandom(16)
    keys = keys_of(ROOT)
    first_facts = Facts(True, 0, 42, 1_800_000_000_000_000)
    first = seal_part(keys, deployment, CHAIN, 0, first_facts, first_link(deployment, CHAIN), FIRST)
    second_facts = Facts(True, 0, 50, 1_800_000_004_000_000)
    second = seal_part(keys, deployment, CHAIN, 1, second_facts, first.hash, SECOND)
    golden = {
        "root": ROOT.hex(),
        "deployment": deployment.hex(),
        "prefix": keys.prefix,
        "chain": CHAIN,
        "parts": [
            describe(first, FIRST, deployment, Scheme(4, 2), 1),
            describe(second, SECOND, deployment, Scheme(1, 2), 2),
        ],
    }
    Path(__file__).with_name("golden.json").write_text(json.dumps(golden, indent=1) + "\n")


def describe(part: SealedPart, content: Content, deployment: bytes, scheme: Scheme, attempt: int) -> dict[str, Any]:
    """One part in the vector."""
    facts = part.facts
    return {
        "part": part.part,
        "attempt": attempt,
        "k": scheme.k,
        "m": scheme.m,
        "point": facts.point,
        "lineage": facts.lineage,
        "sequence": facts.sequence,
        "time_us": facts.time_us,
        "puts": [[key.hex(), value.hex()] for key, value in content.puts],
        "deletes": [key.hex() for key in content.deletes],
        "epochs": [[key.hex(), value.hex()] for key, value in content.epochs],
        "ceiling": content.ceiling,
        "hash": part.hash.hex(),
        "shards": [
            [name, (header + bytes(shard)).hex()]
            for name, header, shard in shards_of(keys_of(ROOT), deployment, part, scheme, attempt)
        ],
    }


if __name__ == "__main__":
    main()
