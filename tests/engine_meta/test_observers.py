"""Observers see every change of objects inside its transaction, and may refuse it."""

from __future__ import annotations

import pytest

from catalog.interface import Transaction
from engine.types import Bucket, ObjectAttributes, ObjectInfo, Versioning
from tests.engine_meta.world import OWNER, memory_world, versioned

LOG = b"\x7flog"


class _Ledger:
    """Writes what it sees into a row, and refuses objects of 13 bytes."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def heeds(self, bucket: Bucket) -> bool:
        return True

    async def committed(self, txn: Transaction, bucket: Bucket, new: ObjectInfo, replaced: ObjectInfo | None) -> None:
        if new.size == 13:
            raise PermissionError("over quota")
        kind = "marker" if new.delete_marker else "new"
        await self._note(txn, kind, new, replaced)

    async def copied(
        self, txn: Transaction, bucket: Bucket, new: ObjectInfo, source: ObjectInfo, replaced: ObjectInfo | None
    ) -> None:
        await self._note(txn, f"copy of {source.key}", new, replaced)

    async def removed(self, txn: Transaction, bucket: Bucket, old: ObjectInfo) -> None:
        await self._note(txn, "removed", old, None)

    async def _note(self, txn: Transaction, kind: str, info: ObjectInfo, replaced: ObjectInfo | None) -> None:
        self.seen.append((kind, info.key, "" if replaced is None else replaced.etag or "marker"))
        count = int(await txn.get(LOG) or b"0")
        txn.put(LOG, b"%d" % (count + 1))


async def test_observers_see_every_change() -> None:
    ledger = _Ledger()
    async with memory_world([ledger]) as world:
        bucket = await world.bucket()
        one = await world.put(bucket, "a", b"1")
        two = await world.put(bucket, "a", b"2")
        async with await world.store.open_object(bucket, "a") as source:
            await world.store.copy_object(source, bucket, "b", attributes=ObjectAttributes())
        await world.store.delete_object(bucket, "b", owner=OWNER)
        await world.store.delete_object(bucket, "missing", owner=OWNER)
        await world.multipart(bucket, "m", [b"part"])
        await world.store.update_bucket(bucket, versioned(Versioning.SUSPENDED))
        marker = await world.store.delete_object(bucket, "a", owner=OWNER)
        await world.store.delete_object(bucket, "a", version_id=marker.version_id, owner=OWNER)
        assert ledger.seen == [
            ("new", "a", ""),
            ("new", "a", one.etag),
            ("copy of a", "b", ""),
            ("removed", "b", ""),
            ("new", "m", ""),
            ("marker", "a", two.etag),
            ("removed", "a", ""),
        ]
        assert await world.rows(LOG) == [(LOG, b"7")]


async def test_an_observer_refuses_a_change_whole() -> None:
    ledger = _Ledger()
    async with memory_world([ledger]) as world:
        bucket = await world.bucket()
        await world.put(bucket, "a", b"1")
        with pytest.raises(PermissionError):
            await world.put(bucket, "a", b"thirteen bytes"[:13])
        assert await world.get(bucket, "a") == b"1"
        upload_id = await world.upload(bucket, "a")
        part = await world.part(bucket, "a", upload_id, 1, b"x" * 13)
        with pytest.raises(PermissionError):
            await world.complete(bucket, "a", upload_id, [part])
        assert await world.get(bucket, "a") == b"1"
        assert [item.upload_id for item in (await world.store.list_uploads(bucket)).uploads] == [upload_id]
        assert await world.rows(LOG) == [(LOG, b"1")]
        await world.audit()
