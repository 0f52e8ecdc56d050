"""A catalog made again from what the nodes hold, with the root key and nothing else.

The newest point that is whole is taken; when bytes turn out to be bad on the way, those are left out and the search
begins again. The catalog is held (catalog/hold.py): the lost one may have gone on after the point, and what it wrote
then must not be deleted before an operator says so. Epochs of the lost gateways come with the point; sequences go on
behind its own, and the next chain's number behind the last one's.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from catalog.backup import publish, require_vacant
from catalog.hold import put_hold
from catalog.interface import Catalog, Transaction
from catalog.lmdb_engine.catalog import LmdbCatalog
from core.crashpoints import reach
from core.errors import StartRefused
from core.ids import ID_LENGTH
from engine.snapshots.keys import SnapshotKeys
from engine.snapshots.parts import Content, Facts
from engine.snapshots.rows import STATE_KEY, STATE_ROW, StateRow
from engine.snapshots.survey import Attempt, PartUnreadable, Source, Step, Survey, fetch, survey

#: Rows written in one transaction.
_ROWS: Final = 2000
#: Parts fetched ahead of the one that is being written.
_AHEAD: Final = 4
_ROUNDS: Final = 100
#: Sentences of one message.
_TOLD: Final = 5
#: What is wrong with single pieces: so many are told.
_WARNINGS: Final = 50

#: Told parts done, parts to do, rows so far.
Progress = Callable[[int, int, int], None]


class NothingToRestore(StartRefused):
    """No point on the nodes is whole, or the key is not theirs; the text says why."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored: the point's facts, the rows written, and what was wrong or missing, a sentence each."""

    facts: Facts
    chain: int
    parts: int
    rows: int
    warnings: list[str] = field(default_factory=list)


async def find_point(
    sources: Sequence[Source],
    keys: SnapshotKeys,
    deployment: bytes,
    refused: frozenset[tuple[str, str]] = frozenset(),
    *,
    latest_us: float = float("inf"),
) -> tuple[Survey, Step]:
    """The newest whole point up to `latest_us`. Raises NothingToRestore, FutureVersion."""
    if len(deployment) != ID_LENGTH:
        raise ValueError("a deployment id has 16 bytes")
    found = await survey(sources, keys, deployment, refused=refused, latest_us=latest_us)
    if found.best is not None:
        return found, found.best
    if not found.heard:
        reasons = "; ".join(f"{name}: {why}" for name, why in found.silent.items())
        raise NothingToRestore(f"no node answers ({reasons})")
    if not found.attempts and found.strangers:
        raise NothingToRestore(
            f"the {found.strangers} snapshot pieces on these nodes were made under another root key: this key is the "
            "wrong one, or one from before or after a rotation"
        )
    if not found.attempts and not found.findings:
        raise NothingToRestore("there is no snapshot on these nodes" + _silent(found))
    why = _few(found.findings) or "none is that old" * (latest_us < float("inf")) or "the first one is not whole yet"
    raise NothingToRestore(f"no snapshot is whole: {why}{_silent(found)}")


def _few(sentences: list[str]) -> str:
    more = len(sentences) - _TOLD
    return "; ".join(sentences[:_TOLD]) + (f"; and {more} more" if more > 0 else "")


def _silent(found: Survey) -> str:
    if not found.silent:
        return ""
    return f"; not heard: {', '.join(f'{name} ({why})' for name, why in found.silent.items())}"


async def restore_folder(
    sources: Sequence[Source],
    keys: SnapshotKeys,
    deployment: bytes,
    folder: Path,
    progress: Progress | None = None,
    *,
    earliest_us: float = 0,
    latest_us: float = float("inf"),
    finish: Callable[[Catalog], Awaitable[None]] | None = None,
) -> Restored:
    """Make an LMDB catalog in `folder`, which must be absent or empty; it appears only when it is complete, so a
    restore that was cut short is simply begun again. `finish` is called on the catalog when it holds its rows; raising
    there ends the restore. The newest point up to `latest_us` is taken; one from before `earliest_us` is refused.
    Raises NothingToRestore, StartRefused, FutureVersion."""
    await asyncio.to_thread(require_vacant, folder)
    partial = folder.with_name(folder.name + ".restoring")
    refused: frozenset[tuple[str, str]] = frozenset()
    spoilt: list[str] = []
    for _ in range(_ROUNDS):
        found, step = await find_point(sources, keys, deployment, refused, latest_us=latest_us)
        if step.facts.time_us < earliest_us:
            found_us, why = step.facts.time_us, "; ".join([*_warnings(found, step.facts), *spoilt])
            raise NothingToRestore(f"the newest whole point is of {_text(found_us)}, too old{why and ': '}{why}")
        await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
        try:
            catalog = await LmdbCatalog.open(partial)
            try:
                last_chain = max(found.attempts)
                rows = await write_point(catalog, keys, deployment, step, spoilt, progress, last_chain=last_chain)
                if finish is not None:
                    await finish(catalog)
            finally:
                await catalog.close()
        except PartUnreadable as error:
            refused |= error.refused
            spoilt.append(str(error))
            continue
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        reach("restore-written")
        await asyncio.to_thread(publish, partial, folder)
        name = step.attempt.name
        return Restored(step.facts, name.chain, name.part + 1, rows, [*_warnings(found, step.facts), *spoilt])
    raise NothingToRestore(f"no snapshot can be read: {'; '.join(spoilt[-3:])}")


async def write_point(
    catalog: Catalog,
    keys: SnapshotKeys,
    deployment: bytes,
    step: Step,
    bad: list[str],
    progress: Progress | None = None,
    *,
    last_chain: int,
) -> int:
    """Write a point's rows into an empty catalog that nobody else uses yet, and hold it; how many were written. Its own
    chains come behind `last_chain`, the newest on the nodes. Raises PartUnreadable: then drop that catalog."""
    path = step.path()
    last = Content()
    done = rows = 0
    async with aclosing(_fetched(keys, deployment, path, bad)) as contents:
        async for last in contents:
            await _apply(catalog, last)
            done += 1
            rows += len(last.puts) + len(last.deletes)
            if progress is not None:
                progress(done, len(path), rows)
    facts = step.facts
    state = StateRow(lineage=facts.lineage + 1, last_chain=last_chain)
    await catalog.load([*last.epochs, (STATE_KEY, STATE_ROW.encode(state))], sequence=last.ceiling)
    await put_hold(catalog, facts.time_us, last.ceiling)
    return rows


async def _fetched(
    keys: SnapshotKeys, deployment: bytes, path: Sequence[Attempt], bad: list[str]
) -> AsyncGenerator[Content, None]:
    """The parts' contents in order, some fetched ahead."""
    tasks: list[asyncio.Task[Content]] = []
    waiting = iter(path)
    try:
        while True:
            while len(tasks) < _AHEAD and (attempt := next(waiting, None)) is not None:
                tasks.append(asyncio.create_task(fetch(keys, deployment, attempt, bad)))
            if not tasks:
                return
            content = await tasks[0]
            del tasks[0]
            yield content
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _apply(catalog: Catalog, content: Content) -> None:
    """Rows of one part, over those of the parts before."""
    for start in range(0, len(content.puts), _ROWS):
        await catalog.load(content.puts[start : start + _ROWS], sequence=0)
    for start in range(0, len(content.deletes), _ROWS):
        doomed = content.deletes[start : start + _ROWS]

        async def delete(txn: Transaction, keys: Sequence[bytes] = doomed) -> None:
            for key in keys:
                txn.delete(key)

        await catalog.transact(delete)


def _text(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, tz=UTC).isoformat(timespec="milliseconds")


def _warnings(found: Survey, facts: Facts) -> list[str]:
    """What an operator must know of a restore."""
    warnings = found.findings[:_WARNINGS]
    if len(found.findings) > len(warnings):
        warnings.append(f"… and {len(found.findings) - len(warnings)} more of that kind")
    if found.newest is not None and found.newest.order > facts.order:
        later = (found.newest.time_us - facts.time_us) / 1e6
        warnings.append(f"a point {later:.1f} s newer was begun, but it is not whole on the nodes that answered")
    if found.silent:
        warnings.append(
            f"a newer point could be on nodes that were not heard{_silent(found).removeprefix('; not heard')}"
        )
    return warnings
