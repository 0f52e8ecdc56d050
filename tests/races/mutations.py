"""Rules of the program, each taken away: what a race that guards it must then find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from catalog.epochs import Epochs
from catalog.interface import Transaction
from engine import compaction, rebuild, references, uploads, versions
from engine.bodies import download
from engine.bodies.locations import Locations
from engine.buckets import Buckets
from engine.layout_data import REFERENCE
from engine.records import UPLOAD_ROW
from engine.segments import write
from engine.types import Bucket

Mutation = Callable[[], AbstractContextManager[Any]]


async def _unguarded(self: Epochs, txn: Transaction) -> None:
    """A commit that does not read its epoch's row."""


def no_guard() -> AbstractContextManager[Any]:
    return patch.object(Epochs, "guard", _unguarded)


def blind_references() -> AbstractContextManager[Any]:
    """Adding a reference without meeting the last remove on the alive row."""

    async def add(txn: Transaction, target: bytes, referrer: bytes) -> None:
        txn.put(REFERENCE + target + referrer, b"")

    return patch.object(references, "add", add)


def no_horizon() -> AbstractContextManager[Any]:
    """A collector that does not wait for running reads."""

    async def passed(self: Epochs, sequence: int) -> bool:
        return True

    return patch.object(Epochs, "all_passed", passed)


def no_second_look() -> AbstractContextManager[Any]:
    """A reader that believes what it remembers of a body's place."""
    return patch.object(download, "_ATTEMPTS", 1)


def blind_retirement() -> AbstractContextManager[Any]:
    """A compaction that retires a pack without looking who still lies in it."""
    retire = compaction._retire_one

    async def blind(txn: Transaction, pack: bytes) -> bool:
        with patch.object(compaction, "ALIVE", b"nobody is alive"):
            return await retire(txn, pack)

    return patch.object(compaction, "_retire_one", blind)


@contextmanager
def one_name() -> Iterator[None]:
    """Names of pieces that are used again."""

    def name(epoch: int, segment: bytes) -> str:
        return f"{0:016x}-{segment.hex()}"

    with patch.object(rebuild, "piece_name", name), patch.object(write, "piece_name", name):
        yield


def parts_without_upload() -> AbstractContextManager[Any]:
    """A part that does not care whether its upload has ended."""
    return patch.object(
        uploads, "open_upload", lambda bucket, key, raw: None if raw is None else UPLOAD_ROW.decode(raw)
    )


def immortal_bucket() -> AbstractContextManager[Any]:
    """Commits that do not ask whether their bucket still exists."""

    def live(self: Buckets, bucket: Bucket, raw: bytes | None) -> Bucket:
        return bucket

    return patch.object(Buckets, "live", live)


def head_from_a_read() -> AbstractContextManager[Any]:
    """Conditions judged on what an earlier commit left in a cache instead of the row in the transaction."""
    seen: dict[bytes, Any] = {}
    decode = versions.decode_head

    def stale(raw: bytes | None) -> Any:
        return seen.setdefault(b"head", decode(raw))

    return patch("engine.objects.decode_head", stale)


def locations_for_ever() -> AbstractContextManager[Any]:
    """Asking the catalog anew answers from memory."""
    get = Locations.get

    async def cached(self: Locations, body_id: bytes, *, fresh: bool = False) -> Any:
        return await get(self, body_id)

    return patch.object(Locations, "get", cached)


def foreign_packs_are_dead() -> AbstractContextManager[Any]:
    """A compaction that takes a member without a body for a dead one, whoever wrote the pack."""

    async def never(*_: object) -> bool:
        return False

    return patch.object(compaction.CompactionWorker, "_may_fill", never)


@contextmanager
def late_delete_believes() -> Iterator[None]:
    """A conditional delete that does not judge its condition in its own transaction."""
    with patch("engine.delete.judge_delete", lambda condition, version: None):
        yield
