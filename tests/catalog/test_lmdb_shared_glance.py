"""What a guest may have seen, the host's glances show too, though its event loop has not heard of the commit yet."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from catalog.lmdb_engine.catalog import LmdbCatalog
from tests.catalog.conformance import A, B, put


async def test_a_glance_shows_what_a_guest_may_have_seen(tmp_path: Path) -> None:
    host = await LmdbCatalog.open(tmp_path)
    host.share()
    await put(host, (A, b"1"))
    for number in range(2, 12):
        value = b"%d" % number
        writing = asyncio.create_task(put(host, (A, value)))
        while host._writer.writing is None:  # noqa: ASYNC110 - the very turn of the loop counts
            await asyncio.sleep(0)
        deadline = time.monotonic() + 10
        while True:  # as a guest reads, without a turn of this event loop
            fresh = host._environment.snapshot()
            seen = fresh.get(A)
            fresh.close()
            if seen == value:
                break
            assert time.monotonic() < deadline
            time.sleep(0.0005)  # noqa: ASYNC251 - the event loop is not to have its turn
        assert host._writer.writing is not None, "the event loop has heard of it"
        assert host.glance((B,)) == [None]
        assert host.glance((B, A)) == [None, value]
        await writing
        assert host.glance((A,)) == [value]
    await host.close()
