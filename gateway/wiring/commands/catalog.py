"""`atoll catalog`: all metadata and small objects, backed up while serving, restored into a stopped data folder."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click
from rich.console import Console

from catalog.backup import BackupSummary, restore, verify_backup
from core.errors import StartRefused
from gateway.wiring.commands.catalog_copy import copy, reopen
from gateway.wiring.lock import folder_lock
from gateway.wiring.options import admin_client, human_size, settings_of, settings_options
from gateway.wiring.secret_files import create_private_folder


@click.group("catalog")
def command() -> None:
    """Back up, restore or copy the catalog, or accept a restored one."""


command.add_command(copy)
command.add_command(reopen)


@command.command("backup")
@settings_options
@click.argument("target", type=click.Path(path_type=Path))
def backup(config: Path | None, data: str | None, target: Path) -> None:
    """Write a consistent copy of the running server's catalog to the new file TARGET."""
    last: dict[str, object] = {}
    with Console(stderr=True).status("backing up") as status:
        for step in admin_client(config, data).stream("POST", "/catalog/backup", target=str(target.absolute())):
            last = step
            status.update(f"backing up: {step['rows']:,} rows, {human_size(step['bytes'])}")
    click.echo(f"{last['rows']} rows at sequence {last['sequence']} written to {target}")


@command.command("restore")
@settings_options
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option("--verify-only", is_flag=True, help="Check the backup and change nothing.")
def restore_command(config: Path | None, data: str | None, source: Path, verify_only: bool) -> None:
    """Put the backup SOURCE in the place of a data folder's catalog; the server must be stopped.

    The present catalog is kept beside as `catalog.before-restore`. Nothing is deleted from nodes, so that you can put
    it back, until `atoll catalog accept`.
    """
    if verify_only:
        summary = asyncio.run(verify_backup(source))
        click.echo(f"good: {summary.rows} rows at sequence {summary.sequence}")
        return
    settings = settings_of(config, data=data)
    if settings.catalog.url:
        raise StartRefused("the settings name a database as the catalog; this command restores into a data folder only")
    folder = settings.data
    if not folder.exists():
        asyncio.run(verify_backup(source))  # else a file that is no backup would leave an empty data folder behind
    create_private_folder(folder)
    with folder_lock(folder):
        summary = asyncio.run(_restore(source, folder))
    click.echo(
        f"restored {summary.rows} rows at sequence {summary.sequence}; start the server, run `atoll check`, and "
        "`atoll catalog accept` once all is well: until then nothing is deleted from nodes"
    )


@command.command("accept")
@settings_options
def accept(config: Path | None, data: str | None) -> None:
    """Let the running server delete what its catalog does not need, after it was restored, moved or reopened.

    After that the catalog before it is of no use: pieces that only that one references are deleted.
    """
    admin_client(config, data).call("POST", "/catalog/accept")
    click.echo("accepted; pieces that only the catalog before this one references will be deleted")


async def _restore(source: Path, folder: Path) -> BackupSummary:
    """Restore beside first, so that a damaged backup leaves the present catalog where it is."""
    present, beside, kept = folder / "catalog", folder / "catalog.restoring", folder / "catalog.before-restore"
    if kept.exists():
        raise StartRefused(f"{kept} is left of an earlier restore; move it away first")
    if beside.exists():
        raise StartRefused(f"{beside} is left of a restore that was cut short; remove it first")
    with Console(stderr=True).status("restoring") as status:
        summary = await restore(
            source, beside, lambda rows, size: status.update(f"restoring: {rows:,} rows, {human_size(size)}")
        )
    if present.exists():
        present.rename(kept)
    beside.rename(present)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return summary
