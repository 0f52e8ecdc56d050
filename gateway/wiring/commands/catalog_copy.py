"""`atoll catalog copy` and `reopen`: a catalog in another place, and the way back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from catalog.copying.marks import read_marks, take_into_use
from catalog.lmdb_engine.catalog import LmdbCatalog
from catalog.lmdb_engine.folder import holds_catalog
from catalog.postgres_engine.catalog import PostgresCatalog
from core.clock import SystemClock
from core.errors import StartRefused
from gateway.wiring.lock import folder_lock
from gateway.wiring.options import admin_client, catalog_option, human_size, settings_of, settings_options
from gateway.wiring.settings import COPY_VARIABLE, Settings

_END_SECONDS = 10.0  # that a server takes to end beside its drain
_LOOK_SECONDS = 0.1


@click.command("copy")
@settings_options
@click.option(
    "--to",
    "target",
    required=True,
    metavar="TARGET",
    envvar=COPY_VARIABLE,
    help="postgresql://… of an empty database (better not here when it holds a password), or a data folder, which gets "
    f"a catalog. [{COPY_VARIABLE}]",
)
@click.option(
    "--switch", is_flag=True, help="Move there: this catalog takes no writes afterwards, and its server ends."
)
def copy(config: Path | None, data: str | None, target: str, switch: bool) -> None:
    """Copy the running server's catalog to another place, while it serves.

    The copy is compared with the catalog row by row. What was cut short goes on when it is run again; so a copy is also
    brought up to date. Writes are answered with 503 during the last step of a switch; nothing acknowledged is lost.
    """
    order = {"target": target if "://" in target else str(Path(target).absolute()), "switch": switch}
    last: dict[str, Any] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("copying", total=None)
        for step in admin_client(config, data).stream("POST", "/catalog/copy", order):
            last = step
            _show(progress, task, step)
    click.echo(
        f"compared {last['total']} rows, all the same at sequence {last['sequence']}; {last['written']} written, "
        f"{last['removed']} removed"
    )
    if last["moved"]:
        how = "start" if _await_end(settings_of(config, data=data)) else "wait until the server has ended and start"
        click.echo(
            f"the catalog was moved; {how} servers with the new one, run `atoll check`, and `atoll catalog accept` "
            "once all is well: until then nothing is deleted from nodes, so that you can go back"
        )


def _await_end(settings: Settings) -> bool:
    """Whether the server has let go of its data folder: until then it may answer reads with what was there."""
    deadline = time.monotonic() + settings.http.drain_delay + settings.http.drain_timeout + _END_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(StartRefused), folder_lock(settings.data):
            return True
        time.sleep(_LOOK_SECONDS)
    return False


def _show(progress: Progress, task: TaskID, step: dict[str, Any]) -> None:
    text = f"{step['stage']}: {step['rows']:,} rows, {human_size(step['bytes'])}; {step['followed']:,} changes"
    if step["stage"] == "comparing":
        progress.update(task, description=f"{text}; compared", completed=step["compared"], total=step["rows"])
    else:
        progress.update(task, description=text, total=None)


@click.command("reopen")
@settings_options
@catalog_option
def reopen(config: Path | None, data: str | None, catalog: str | None) -> None:
    """Take a catalog into use that was moved elsewhere, or a copy that nobody switched to; its server must be stopped.

    What was written under another catalog since is not in it. Nothing is deleted from nodes until `atoll catalog
    accept`. Never let two catalogs of one deployment serve at the same time.
    """
    asyncio.run(_reopen(settings_of(config, data=data, catalog=catalog)))
    click.echo(
        "reopened; start the server, run `atoll check`, and `atoll catalog accept` once all is well: until then "
        "nothing is deleted from nodes"
    )


async def _reopen(settings: Settings) -> None:
    if url := settings.catalog.url.reveal():
        await _take(await PostgresCatalog.open(url, may_create=False))
        return
    folder = settings.data / "catalog"
    if not holds_catalog(folder):
        raise StartRefused(f"{folder} holds no catalog")
    with folder_lock(settings.data):
        await _take(await LmdbCatalog.open(folder))


async def _take(catalog: LmdbCatalog | PostgresCatalog) -> None:
    try:
        moved, copied = await catalog.read(read_marks)
        if moved is None and copied is None:
            raise StartRefused("this catalog was not moved, and is no copy: nothing keeps a server from using it")
        if moved is None and copied is not None and not copied.sequence:
            raise StartRefused("this copy is not whole: run `atoll catalog copy` again at its source")
        await catalog.unretire()
        await take_into_use(catalog, SystemClock().now_us())
    finally:
        await catalog.close()
