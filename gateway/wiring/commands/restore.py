"""`atoll restore`: a data folder made again from its nodes, with the root key."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from backends.disk.salvage import SalvagedFolder
from backends.errors import BackendError
from catalog.backup import require_vacant
from core.errors import StartRefused
from engine.keyring import LocalKeyWrapper
from engine.snapshots.keys import SnapshotKeys
from engine.snapshots.restore import Restored, restore_folder
from engine.snapshots.survey import Source
from gateway.wiring.adoption import adopt, put_root_key
from gateway.wiring.lock import folder_lock
from gateway.wiring.options import settings_of, settings_options
from gateway.wiring.secret_files import create_private_folder

#: What a data folder may hold before: its nodes, and what a killed server or a restore that was cut short left. The
#: catalog's folder must be empty.
_HARMLESS = {"nodes", "lock", "admin.sock", "credentials", "catalog", "catalog.restoring"}
_TIME = click.DateTime(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])


@click.command("restore")
@settings_options
@click.option("--node", "nodes", multiple=True, type=click.Path(path_type=Path), help="A node's folder; once for each.")
@click.option("--root-key", required=True, type=click.Path(path_type=Path), help="The exported root key.")
@click.option("--not-before", type=_TIME, help="Refuse a point older than this (UTC).")
@click.option("--not-after", type=_TIME, help="Take the newest point up to this (UTC), and no newer one.")
@click.option("--json", "as_json", is_flag=True, help="Tell the outcome machine-readably.")
def command(
    config: Path | None,
    data: str | None,
    nodes: tuple[Path, ...],
    root_key: Path,
    not_before: datetime | None,
    not_after: datetime | None,
    as_json: bool,
) -> None:
    """Make the catalog of an empty data folder again from the newest whole snapshot on the nodes.

    Without --node the nodes are those of the settings, else those in the data folder. The server of the restored
    folder finds its nodes where they are now. Nothing is deleted from nodes until `atoll catalog accept`. Of what an
    older point than the newest names, nodes may have deleted some: `atoll check` tells.
    """
    settings = settings_of(config, data=data)
    if settings.catalog.url:
        raise StartRefused(
            "the settings name a database as the catalog; restore into a data folder, then copy it there"
        )
    _require_empty(settings.data)
    require_vacant(settings.data / "catalog")
    wrapper = LocalKeyWrapper.from_file(root_key)
    folders = [path.absolute() for path in (nodes or settings.nodes)] or _embedded(settings.data)
    if not folders:
        raise StartRefused("no nodes are named: give --node for each, or nodes in atoll.toml")
    create_private_folder(settings.data)
    with folder_lock(settings.data):
        restored, warnings = asyncio.run(_restore(settings.data.absolute(), wrapper, folders, (not_before, not_after)))
    warnings += put_root_key(settings, wrapper, root_key, restored.deployment)
    _tell(restored.point, warnings, settings.data, as_json)


class _Outcome:
    """What was restored, and of which deployment."""

    def __init__(self, point: Restored, deployment: bytes) -> None:
        self.point, self.deployment = point, deployment


def _require_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or {entry.name for entry in folder.iterdir()} - _HARMLESS):
        raise StartRefused(f"{folder} is not empty; restore into a new data folder, or one that holds its nodes alone")


def _embedded(data: Path) -> list[Path]:
    folder = data.absolute() / "nodes"
    return sorted(folder.iterdir()) if folder.is_dir() else []


async def _restore(
    root: Path, wrapper: LocalKeyWrapper, paths: list[Path], between: tuple[datetime | None, datetime | None]
) -> tuple[_Outcome, list[str]]:
    opened: dict[Path, SalvagedFolder] = {}
    refusals: list[str] = []
    sources: list[Source] = []
    async with contextlib.AsyncExitStack() as closing:
        for path in paths:
            folder = SalvagedFolder(path)
            sources.append(Source(str(path), folder))
            try:
                await folder.open()
            except BackendError as error:
                refusals.append(str(error))
                continue
            closing.push_async_callback(folder.close)
            opened[path] = folder
        deployment = _deployment_of(opened, refusals)
        keys = SnapshotKeys(wrapper.derive)
        warnings: list[str] = []
        earliest, latest = (None if when is None else when.replace(tzinfo=UTC).timestamp() * 1e6 for when in between)
        with _progress() as show:
            task = show.add_task("restoring", total=None)

            def step(done: int, total: int, rows: int) -> None:
                show.update(task, completed=done, total=total, description=f"restoring, {rows:,} rows")

            point = await restore_folder(
                sources,
                keys,
                deployment,
                root / "catalog",
                step,
                earliest_us=earliest or 0,
                latest_us=latest or float("inf"),
                finish=lambda catalog: adopt(catalog, wrapper, root, opened, warnings),
            )
    return _Outcome(point, deployment), [*point.warnings, *warnings]


def _deployment_of(opened: dict[Path, SalvagedFolder], refusals: list[str]) -> bytes:
    """The one that all nodes are of. Raises StartRefused."""
    if not opened:
        raise StartRefused(f"no node can be read: {'; '.join(refusals)}")
    found = Counter(folder.marker.deployment_id for folder in opened.values())
    if len(found) > 1:
        told = ", ".join(f"{path} of {folder.marker.deployment_id.hex()}" for path, folder in opened.items())
        raise StartRefused(f"these nodes are of more than one deployment: {told}")
    return next(iter(found))


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _tell(point: Restored, warnings: list[str], data: Path, as_json: bool) -> None:
    when = datetime.fromtimestamp(point.facts.time_us / 1e6, tz=UTC).isoformat(timespec="milliseconds")
    if as_json:
        told: dict[str, Any] = {
            "point": when,
            "point_us": point.facts.time_us,
            "sequence": point.facts.sequence,
            "chain": point.chain,
            "parts": point.parts,
            "rows": point.rows,
            "warnings": warnings,
        }
        click.echo(json.dumps(told, indent=2))
        return
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(
        f"restored the catalog as of {when}: {point.rows} rows, sequence {point.facts.sequence}; what was acknowledged "
        f"later is lost. Start the server on {data}, run `atoll check`, and `atoll catalog accept` once all is well: "
        "until then nothing is deleted from nodes"
    )
