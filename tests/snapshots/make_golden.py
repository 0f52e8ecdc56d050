"""Writes golden.json, once for a format: `python -m tests.snapshots.make_golden`."""

from __future__ import annotations

import json
import os
from pathlib import Path

from engine.snapshots.parts import Content, Facts, first_link, seal_part, shards_of
from erasure.scheme import Scheme
from tests.snapshots.world import ROOT, keys_of

CHAIN = 7


def main() -> None:
    keys, deployment = keys_of(ROOT), os.urandom(16)
    content = Content(
        puts=[(b"\x10first", b"value"), (b"\x20second", b"")],
        deletes=[b"\x10gone"],
        epochs=[(b"\x04n", b"1")],
        ceiling=43,
    )
    facts = Facts(True, 0, 42, 1_800_000_000_000_000)
    part = seal_part(keys, deployment, CHAIN, 0, facts, first_link(deployment, CHAIN), content)
    golden = {
        "root": ROOT.hex(),
        "deployment": deployment.hex(),
        "prefix": keys.prefix,
        "chain": CHAIN,
        "part": 0,
        "puts": [[key.hex(), value.hex()] for key, value in content.puts],
        "deletes": [key.hex() for key in content.deletes],
        "shards": [
            [name, (header + bytes(shard)).hex()]
            for name, header, shard in shards_of(keys, deployment, part, Scheme(4, 2), 1)
        ],
    }
    Path(__file__).with_name("golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
