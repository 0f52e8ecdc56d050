"""The LMDB engine when things go wrong: full, failing, damaged, from the future, closed."""

from __future__ import annotations

import asyncio
import errno
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import pytest

from catalog.errors import CatalogClosed, CatalogFailed, CatalogFull, CatalogMisuse, Corrupt, FutureVersion, Locked
from catalog.interface import Reader, Transaction
from catalog.keys import u64
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.lmdb_engine.committer import Committer, Done
from catalog.lmdb_engine.environment import Environment
from catalog.lmdb_engine.pages import PageFile
from catalog.prefixes import ENGINE
from tests.catalog.conformance import A, B, get, put, remove, scan


async def test_the_map_grows_when_it_is_used_up(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path, map_size=1 << 20)
    rows = [(ENGINE + u64(i) + b"k" * (i % 3 * 400), b"v" * 900) for i in range(4000)]
    await asyncio.gather(*(put(catalog, *rows[i : i + 20]) for i in range(0, len(rows), 20)))
    assert await scan(catalog) == sorted(rows)
    await put(catalog, *[(key, b"w" * 900) for key, _ in rows])
    assert await get(catalog, rows[0][0]) == b"w" * 900
    await catalog.close()
    catalog = await LmdbCatalog.open(tmp_path)
    assert len(await scan(catalog)) == len(rows)
    await catalog.close()


async def test_the_map_does_not_move_under_a_long_read(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path, map_size=1 << 20)
    await put(catalog, *[(ENGINE + u64(i), b"v" * 100) for i in range(1500)])
    export = catalog.export()
    first = await anext(export)
    writing = asyncio.create_task(put(catalog, *[(b"\x20" + u64(i), b"v" * 900) for i in range(3000)]))
    await asyncio.sleep(0.2)
    assert not writing.done()
    late = asyncio.create_task(catalog.read(lambda reader: reader.get(b"\x20" + u64(5)), long=True))
    rest = [row async for run in export for row in run]
    assert len(first) + len(rest) == 1500 + 1
    await writing
    assert await late in (None, b"v" * 900)
    await catalog.close()


_FULL = """
import asyncio, resource, sys
from pathlib import Path
from catalog.errors import CatalogFull
from catalog.lmdb_engine.catalog import LmdbCatalog
from tests.catalog.conformance import A, get, put, scan
from catalog.keys import u64

async def main():
    catalog = await LmdbCatalog.open(Path(sys.argv[1]))
    await put(catalog, (A, b"before"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    full = 0
    results = await asyncio.gather(
        *(put(catalog, *[(b"\\x20" + u64(i) + u64(j), b"v" * 900) for j in range(20)]) for i in range(200)),
        return_exceptions=True)
    assert all(r is None or isinstance(r, CatalogFull) for r in results), results
    assert any(results)
    assert await get(catalog, A) == b"before"
    kept = len(await scan(catalog, b"\\x20", b"\\x21"))
    assert kept == 20 * results.count(None)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await put(catalog, *[(b"\\x20" + u64(999) + u64(j), b"v" * 900) for j in range(2000)])
    assert len(await scan(catalog, b"\\x20", b"\\x21")) == kept + 2000
    await catalog.close()
    print("survived")

asyncio.run(main())
"""


def test_a_full_disk_refuses_writes_and_goes_on_reading(tmp_path: Path) -> None:
    """In a process of its own, whose files may not grow for a while."""
    done = subprocess.run([sys.executable, "-c", _FULL, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "survived\n", done.stderr


async def test_a_failed_sync_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = await LmdbCatalog.open(tmp_path)
    await put(catalog, (A, b"durable"))
    real: Callable[[Committer, Any, Done], None] = Committer.commit

    def failing(self: Committer, txn: Any, done: Done) -> None:
        error = lmdb.Error("mdb_txn_commit: Input/output error")
        self.abort(txn, lambda _error, _txn: done(error, None))

    monkeypatch.setattr(Committer, "commit", failing)
    results = await asyncio.gather(
        put(catalog, (A, b"lost")),
        put(catalog, (B, b"lost")),
        catalog.transact(lambda t: t.get(A)),
        return_exceptions=True,
    )
    assert all(isinstance(result, CatalogFailed) for result in results)
    monkeypatch.setattr(Committer, "commit", real)
    with pytest.raises(CatalogFailed, match="opened anew"):
        await put(catalog, (A, b"refused"))
    assert await scan(catalog) == [(A, b"durable")]
    await catalog.close()
    catalog = await LmdbCatalog.open(tmp_path)
    await put(catalog, (B, b"again"))
    assert await scan(catalog) == [(A, b"durable"), (B, b"again")]
    await catalog.close()


async def test_a_commit_in_doubt_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a nearly full disk, a commit whose last record failed may be on disk all the same."""
    catalog = await LmdbCatalog.open(tmp_path)
    await put(catalog, (A, b"durable"))

    def failing(self: Committer, txn: Any, done: Done) -> None:
        error: Any = lmdb.Error("mdb_txn_commit: Input/output error")
        error.code = errno.EIO
        self.abort(txn, lambda _error, _txn: done(error, None))

    def panicking(self: Committer, done: Done) -> None:
        asyncio.get_running_loop().call_soon(done, lmdb.PanicError("mdb_txn_begin"), None)

    monkeypatch.setattr(Environment, "_lacks_space", lambda _: True)
    monkeypatch.setattr(Committer, "commit", failing)
    with pytest.raises(CatalogFull):
        await put(catalog, (A, b"no space for its pages"))
    monkeypatch.setattr(Committer, "begin", panicking)
    with pytest.raises(CatalogFailed, match="in doubt"):
        await put(catalog, (A, b"perhaps on disk"))
    with pytest.raises(CatalogFailed):
        await put(catalog, (A, b"refused"))
    await catalog.close()


async def test_what_an_error_was_decided_on_must_be_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B is refused because of A's pending write; when that write fails, the refusal must not be believed."""
    catalog = await LmdbCatalog.open(tmp_path)

    async def create(txn: Transaction) -> None:
        if await txn.get(A) is not None:
            raise FileExistsError
        txn.put(A, b"")

    def full(self: Committer, txn: Any, done: Done) -> None:
        self.abort(txn, lambda _error, _txn: done(lmdb.DiskError("mdb_txn_commit: No space left on device"), None))

    with monkeypatch.context() as patch:
        patch.setattr(Committer, "commit", full)
        results = await asyncio.gather(catalog.transact(create), catalog.transact(create), return_exceptions=True)
        assert [type(result) for result in results] == [CatalogFull, CatalogFull]
    results = await asyncio.gather(catalog.transact(create), catalog.transact(create), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), FileExistsError]
    await catalog.close()


async def test_the_pending_queue_is_bounded(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path, max_pending_rows=50)
    most = 0

    async def client(number: int) -> None:
        nonlocal most
        await put(catalog, *[(ENGINE + u64(number) + u64(i), b"") for i in range(10)])

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, sum(len(batch.writes) for batch in catalog._writer.pending))
            await asyncio.sleep(0)

    watcher = asyncio.create_task(watch())
    await asyncio.gather(*(client(i) for i in range(200)))
    watcher.cancel()
    await asyncio.gather(watcher, return_exceptions=True)
    assert 50 <= most <= 120
    assert len(await scan(catalog)) == 2000
    await catalog.close()


async def test_awaiting_anything_else_is_refused(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path)

    async def sleeps(txn: Transaction) -> None:
        txn.put(A, b"")
        await asyncio.sleep(0)

    async def dozes(reader: Reader) -> None:
        await asyncio.sleep(0)

    with pytest.raises(CatalogMisuse):
        await catalog.transact(sleeps)
    with pytest.raises(CatalogMisuse):
        await catalog.read(dozes)
    assert await get(catalog, A) is None
    await catalog.close()


async def test_closing_waits_for_what_is_pending_and_then_refuses(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path)
    pending = [asyncio.create_task(put(catalog, (ENGINE + u64(i), b""))) for i in range(30)]
    waiting = asyncio.create_task(catalog.wait_changes(10_000))
    await asyncio.sleep(0)
    await catalog.close()
    await asyncio.gather(*pending)
    with pytest.raises(CatalogClosed):
        await waiting
    with pytest.raises(CatalogClosed):
        await put(catalog, (A, b""))
    with pytest.raises(CatalogClosed):
        await get(catalog, A)
    with pytest.raises(CatalogClosed):
        await catalog.read(lambda reader: reader.get(A), long=True)
    await catalog.close()
    catalog = await LmdbCatalog.open(tmp_path)
    assert len(await scan(catalog)) == 30
    await catalog.close()


async def test_a_cancelled_long_read_keeps_its_snapshot_until_it_ends(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path)
    await put(catalog, *[(ENGINE + u64(i), b"v" * 50) for i in range(30_000)])
    task = asyncio.create_task(catalog.read(lambda r: r.scan(ENGINE, b"\x11", limit=100_000), long=True))
    await asyncio.sleep(0.002)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await catalog.close()
    assert catalog._writer.long_readers == 0


async def test_the_same_folder_twice_in_one_process_is_refused(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path)
    with pytest.raises(Locked):
        await LmdbCatalog.open(tmp_path)
    await catalog.close()


async def test_a_future_format_is_refused_by_name(tmp_path: Path) -> None:
    await (await LmdbCatalog.open(tmp_path)).close()
    env = lmdb.open(str(tmp_path), max_dbs=8)
    with env.begin(write=True, db=env.open_db(b"meta")) as txn:
        txn.put(b"format", msgspec.msgpack.encode(2))
    env.close()
    with pytest.raises(FutureVersion, match="format 2"):
        await LmdbCatalog.open(tmp_path)
    with pytest.raises(FutureVersion):
        await LmdbCatalog.open(tmp_path)


async def filled(folder: Path) -> bytes:
    """A closed catalog of a few hundred pages; returns its file."""
    catalog = await LmdbCatalog.open(folder)
    rng = random.Random(1)
    for _ in range(5):
        await put(catalog, *[(ENGINE + rng.randbytes(16), rng.randbytes(200)) for _ in range(500)])
    await put(catalog, (A, b"x" * 100_000), (A * 700, b"y"))
    await catalog.close()
    return (folder / "data.mdb").read_bytes()


@pytest.mark.parametrize("share", [0, 0.0001, 0.01, 0.3, 0.7, 0.99])
async def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    data = await filled(tmp_path)
    (tmp_path / "data.mdb").write_bytes(data[: max(1, int(len(data) * share))])
    with pytest.raises(Corrupt, match="damaged"):
        await LmdbCatalog.open(tmp_path)


async def test_garbage_is_refused(tmp_path: Path) -> None:
    data = await filled(tmp_path)
    for content in (b"garbage" * 10_000, bytes(len(data)), data[4096:], b"\xff" * 4096 + data[4096:]):
        (tmp_path / "data.mdb").write_bytes(content)
        with pytest.raises(Corrupt, match="backup"):
            await LmdbCatalog.open(tmp_path)


async def test_every_overwritten_page_in_use_is_noticed_or_harmless(tmp_path: Path) -> None:
    """A random page is filled with noise: opening refuses, or every row still reads as it was."""
    data = await filled(tmp_path)
    catalog = await LmdbCatalog.open(tmp_path)
    rows = await scan(catalog, b"\x01", b"\xff")
    await catalog.close()
    rng = random.Random(2)
    refused = 0
    for _ in range(40):
        at = rng.randrange(2, len(data) // 4096) * 4096
        (tmp_path / "data.mdb").write_bytes(data[:at] + rng.randbytes(4096) + data[at + 4096 :])
        try:
            catalog = await LmdbCatalog.open(tmp_path)
        except Corrupt:
            refused += 1
            continue
        # Noise in the middle of one large value is not structure; nothing may crash.
        assert [key for key, _ in await scan(catalog, b"\x01", b"\xff")] == [key for key, _ in rows]
        await catalog.close()
    assert refused >= 10


async def test_sound_files_pass_the_walk_whatever_was_done_to_them(tmp_path: Path) -> None:
    catalog = await LmdbCatalog.open(tmp_path)
    rng = random.Random(3)
    for _ in range(60):
        keys = [ENGINE + rng.randbytes(1) + b"k" * rng.choice((3, 300, 600, 1100, 2000)) for _ in range(30)]
        await put(catalog, *[(key, bytes(rng.choice((1, 100, 5000, 40_000)))) for key in keys])
        await remove(catalog, *rng.sample(keys, 20))
        file = PageFile(tmp_path / "data.mdb")
        file.walk()
        file.close()
    await catalog.close()


async def test_an_empty_file_is_started_anew(tmp_path: Path) -> None:
    """A crash right after the file was created."""
    (tmp_path / "data.mdb").touch()
    catalog = await LmdbCatalog.open(tmp_path)
    await put(catalog, (A, b"1"))
    await catalog.close()


def test_address_space_may_be_scarce(tmp_path: Path) -> None:
    script = (
        "import asyncio, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "from catalog.lmdb_engine.catalog import LmdbCatalog\n"
        "async def main():\n"
        "    catalog = await LmdbCatalog.open(sys.argv[1])\n"
        "    await catalog.close()\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
