"""How many blocks 10,000 objects of 10 KiB take on the nodes and in the catalog, after idle compaction.

What the workers do by themselves in a minute or two of idleness they are asked to do at once.

The physical limit of 4+2 is 1.5 × plus the footers; the floor for this figure is 1.7 ×.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from bench import measures
from bench.client import put_all
from bench.servers import Atoll

COUNT = 10_000
#: How long the change feed is kept at least.
FEED_SECONDS = 11


def allocated(folder: Path) -> int:
    """Bytes of the blocks that the file system gave to everything below `folder`."""
    blocks = 0
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):  # collected between the listing and the look
                blocks += os.lstat(os.path.join(where, name)).st_blocks
    return blocks * 512


def measure(folder: Path, connections: int) -> float:
    server = Atoll(folder)
    server.start()
    try:
        measures.make_bucket(server.endpoint)
        empty = allocated(server.server.data)
        paths = [f"{measures.BUCKET}/{number:05d}" for number in range(COUNT)]
        put_all(server.endpoint, paths, measures.SMALL, connections=connections)
        for worker in ("settling", "compaction", "collection", "feed-trim", "snapshots", "catalog-repack"):
            if worker == "feed-trim":
                time.sleep(FEED_SECONDS)
            done = server.server.command("worker", "run", worker, timeout=300)
            if done.returncode:
                raise RuntimeError(done.stdout + done.stderr)
        return (allocated(server.server.data) - empty) / (COUNT * len(measures.SMALL))
    finally:
        server.stop()


def main() -> None:
    base = Path(__file__).resolve().parents[1] / "data"
    base.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="space-", dir=base))
    try:
        for connections in (16, 1):
            ratio = measure(folder / str(connections), connections)
            print(f"10,000 × 10 KiB by {connections:2} clients: {ratio:.3f} × their size (4+2 alone: 1.5)", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
