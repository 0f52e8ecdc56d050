"""`atoll keys`: the root key, exported and rotated."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from gateway.wiring.options import admin_client, settings_options
from gateway.wiring.secret_files import write_secret


@click.group("keys")
def command() -> None:
    """Export or rotate the root key."""


@command.command("export")
@settings_options
@click.option("--output", type=click.Path(path_type=Path), help="A new file (0600) instead of the terminal.")
def export(config: Path | None, data: str | None, output: Path | None) -> None:
    """Show the root key, to be kept where the disks of this machine are not.

    Without it nothing that is stored can be read, whatever else survives.
    """
    key = admin_client(config, data).call("POST", "/keys/export")
    if output is None:
        click.echo(key["key"])
        click.echo(f"root key {key['key_id']} of deployment {key['deployment']}", err=True)
        return
    try:
        write_secret(output, key["key"].encode() + b"\n")
    except OSError as error:
        raise click.ClickException(f"cannot write {output}: {error.strerror}") from error
    click.echo(f"root key {key['key_id']} written to {output}")


@command.command("rotate")
@settings_options
def rotate(config: Path | None, data: str | None) -> None:
    """Put a new root key in force. Bucket keys are wrapped anew; no stored byte is touched.

    The former key stays beside the new one for backups of the catalog made before. Export the new key afterwards.
    """
    last: dict[str, object] = {}
    with Console(stderr=True).status("wrapping bucket keys") as status:
        for step in admin_client(config, data).stream("POST", "/keys/rotate"):
            last = step
            status.update(f"wrapping bucket keys: {step.get('wrapped', 0)}")
    click.echo(f"root key {last['key_id']} is in force; {last['wrapped']} keys wrapped anew. Run `atoll keys export`.")
