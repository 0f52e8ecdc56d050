"""`atoll user`: who may sign requests."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import IO, Any

import click
from rich.console import Console
from rich.table import Table

from gateway.wiring.options import admin_client, settings_options


@click.group("user")
def command() -> None:
    """Add, list and remove users, and say how much each may have."""


@command.command("add")
@settings_options
@click.argument("name")
@click.option("--email", default="", help="E-mail address, by which others may name the user.")
@click.option("--id", "canonical_id", default="", help="Canonical id; made when not given.")
@click.option("--access-key-id", default="", help="Access key; made when not given.")
@click.option(
    "--secret-file", type=click.File("r"), help="File with the secret key ('-' is standard input); made when not given."
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def add(
    config: Path | None,
    data: str | None,
    name: str,
    email: str,
    canonical_id: str,
    access_key_id: str,
    secret_file: IO[str] | None,
    as_json: bool,
) -> None:
    """Add the user NAME and show the access key; the secret is not shown again."""
    secret = secret_file.read().strip() if secret_file is not None else ""
    body = {
        "name": name,
        "email": email,
        "id": canonical_id,
        "access_key_id": access_key_id,
        "secret_access_key": secret,
    }
    user = admin_client(config, data).call("POST", "/users", body)
    if as_json:
        click.echo(json.dumps(user, indent=2))
        return
    click.echo(f"user               {user['name']}\ncanonical id       {user['id']}")
    click.echo(f"access key id      {user['access_key_id']}\nsecret access key  {user['secret_access_key']}")


@command.command("list")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def list_users(config: Path | None, data: str | None, as_json: bool) -> None:
    """Show the users; never their secrets."""
    users = admin_client(config, data).call("GET", "/users")
    if as_json:
        click.echo(json.dumps(users, indent=2))
        return
    table = Table("name", "e-mail", "canonical id", "access keys", "buckets", "from")
    for user in users:
        origin = "configuration" if user["declared"] else "command line"
        keys = " ".join(user["access_key_ids"])
        table.add_row(user["name"], user["email"], user["id"], keys, _owned(user), origin)
    Console().print(table)


def _owned(user: dict[str, Any]) -> str:
    if user["max_buckets"] is None:
        return str(user["buckets"])
    return f"{user['buckets']} of {user['max_buckets']}{'' if user['own_quota'] else ' (default)'}"


def _number_or_none(_: click.Context, __: click.Parameter, value: str) -> int | None:
    if value == "none":
        return None
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise click.BadParameter(f"{value!r} is neither a whole number nor none")
    return int(value)


@command.command("quota")
@settings_options
@click.argument("name")
@click.option(
    "--buckets",
    required=True,
    metavar="N|none",
    callback=_number_or_none,
    help="How many buckets the user may own; none: as many as the default says.",
)
def quota(config: Path | None, data: str | None, name: str, buckets: int | None) -> None:
    """Bound what the user NAME may own, at every gateway at once. What it owns already stays."""
    admin_client(config, data).call("PUT", "/users/quota", {"name": name, "max_buckets": buckets})
    click.echo(f"{name} has no quota of its own" if buckets is None else f"buckets that {name} may own: {buckets}")


@command.command("remove")
@settings_options
@click.argument("name")
def remove(config: Path | None, data: str | None, name: str) -> None:
    """Remove the user NAME; the keys stop working within a second. What the user owns stays."""
    admin_client(config, data).call("DELETE", "/users", name=name)
    click.echo(f"removed {name}")
