"""`atoll migrate`: copy buckets in from another S3 service, and read through to it meanwhile."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from core.config import parse_size
from gateway.wiring.options import admin_client, human_size, settings_options

_LOOK = 0.5  # seconds between looks
_json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable.")


@click.group("migrate")
def command() -> None:
    """Copy buckets in from any S3 service; see docs/operations/migrate.md."""


def _size(_: click.Context, __: click.Parameter, value: str) -> int:
    try:
        return parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _secrets(file: IO[str] | None) -> tuple[str, str]:
    """Secret key and session token from the first two lines of a file."""
    lines = [] if file is None else [line.strip() for line in file.read().splitlines()]
    return (*lines, "", "")[0], (*lines, "", "")[1]


_secret_option = click.option(
    "--secret-file",
    type=click.File("r"),
    help="File with the secret key and, in a second line, a session token if there is one ('-' is standard input).",
)


@command.command("start")
@settings_options
@click.argument("endpoint")
@click.argument("source_bucket")
@click.argument("target_bucket")
@click.option("--region", default="us-east-1", show_default=True, help="Region that requests are signed for.")
@click.option("--virtual-host", is_flag=True, help="Address the source as BUCKET.HOST instead of HOST/BUCKET.")
@click.option("--access-key-id", default="", help="Access key of the source; without one requests are not signed.")
@_secret_option
@click.option("--prefix", default="", help="Copy only keys that begin so.")
@click.option("--concurrency", default=8, show_default=True, help="Objects and parts copied at once, 1 to 64.")
@click.option("--bandwidth", default="0", callback=_size, help="Bytes a second, such as 50MiB; 0 for no limit.")
@click.option("--patience", default=120.0, show_default=True, help="Seconds of silence after which it pauses.")
@click.option("--read-through", is_flag=True, help="Serve what is not here yet from the source.")
@click.option("--no-md5-etags", is_flag=True, help="The source's ETags of 32 hex digits are not the MD5 of the bytes.")
@_json_option
def start(
    config: Path | None,
    data: str | None,
    endpoint: str,
    source_bucket: str,
    target_bucket: str,
    region: str,
    virtual_host: bool,
    access_key_id: str,
    secret_file: IO[str] | None,
    prefix: str,
    concurrency: int,
    bandwidth: int,
    patience: float,
    read_through: bool,
    no_md5_etags: bool,
    as_json: bool,
) -> None:
    """Begin to copy SOURCE_BUCKET at ENDPOINT (a URL) into TARGET_BUCKET here, which must exist."""
    secret, token = _secrets(secret_file)
    body = {
        "endpoint": endpoint,
        "source_bucket": source_bucket,
        "target_bucket": target_bucket,
        "region": region,
        "virtual_host": virtual_host,
        "access_key_id": access_key_id,
        "secret_access_key": secret,
        "session_token": token,
        "prefix": prefix,
        "concurrency": concurrency,
        "bandwidth": bandwidth,
        "patience": patience,
        "read_through": read_through,
        "md5_etags": not no_md5_etags,
    }
    _show(admin_client(config, data).call("POST", "/migrations", body), as_json)


@command.command("list")
@settings_options
@_json_option
def list_migrations(config: Path | None, data: str | None, as_json: bool) -> None:
    """Show every migration, oldest first."""
    jobs = admin_client(config, data).call("GET", "/migrations")
    if as_json:
        click.echo(json.dumps(jobs, indent=2))
        return
    table = Table("migration", "from", "to", "state", "progress")
    for job in jobs:
        origin = f"{job['endpoint']}/{job['source_bucket']}/{job['prefix']}"
        state = f"{job['state']} {job['reason']}".rstrip()
        table.add_row(job["id"], origin, job["target_bucket"], state, _progress(job))
    Console().print(table)


@command.command("status")
@settings_options
@click.argument("migration")
@click.option("--follow", is_flag=True, help="Stay, and show the progress until it rests.")
@_json_option
def status(config: Path | None, data: str | None, migration: str, follow: bool, as_json: bool) -> None:
    """Show the migration with this id. With --follow the exit code is 1 unless it came to its end."""
    client = admin_client(config, data)
    job = client.call("GET", f"/migrations/{migration}")
    if follow:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"))
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("", total=0)
            while job["state"] == "running":
                tallies = job["tallies"]
                text = f"pass {job['pass']} {job['phase']}, {human_size(tallies.get('bytes', 0))}"
                progress.update(task, description=text, total=tallies.get("queued", 0), completed=_done(job))
                time.sleep(_LOOK)
                job = client.call("GET", f"/migrations/{migration}")
    _show(job, as_json)
    if follow and job["state"] != "complete":
        raise SystemExit(1)


@command.command("report")
@settings_options
@click.argument("migration")
@_json_option
def report(config: Path | None, data: str | None, migration: str, as_json: bool) -> None:
    """Show every key that failed, was kept as it is here, or could not be verified, with the reason."""
    client = admin_client(config, data)
    after = ""
    while True:
        page = client.call("GET", f"/migrations/{migration}/report", after=after)
        for key in page["keys"]:
            click.echo(json.dumps(key) if as_json else f"{key['kind']}\t{key['key']}\t{key['reason']}")
        if not (after := page["next"]):
            return


@command.command("pause")
@settings_options
@click.argument("migration")
@_json_option
def pause(config: Path | None, data: str | None, migration: str, as_json: bool) -> None:
    """Stop copying until `resume`. Reading through goes on."""
    _show(admin_client(config, data).call("POST", f"/migrations/{migration}/pause"), as_json)


@command.command("resume")
@settings_options
@click.argument("migration")
@click.option("--access-key-id", default="", help="Another access key of the source.")
@_secret_option
@_json_option
def resume(
    config: Path | None,
    data: str | None,
    migration: str,
    access_key_id: str,
    secret_file: IO[str] | None,
    as_json: bool,
) -> None:
    """Go on after a pause, or make another pass: only what is missing or changed is copied, what failed is tried
    again."""
    secret, token = _secrets(secret_file)
    body = {"access_key_id": access_key_id, "secret_access_key": secret, "session_token": token}
    _show(admin_client(config, data).call("POST", f"/migrations/{migration}/resume", body), as_json)


@command.command("finish")
@settings_options
@click.argument("migration")
@_json_option
def finish(config: Path | None, data: str | None, migration: str, as_json: bool) -> None:
    """End a complete migration: reading through stops, the source's keys are forgotten."""
    _show(admin_client(config, data).call("POST", f"/migrations/{migration}/finish"), as_json)


@command.command("cancel")
@settings_options
@click.argument("migration")
@_json_option
def cancel(config: Path | None, data: str | None, migration: str, as_json: bool) -> None:
    """End a migration as it is: what was copied stays, the rest is not copied."""
    _show(admin_client(config, data).call("POST", f"/migrations/{migration}/cancel"), as_json)


@command.command("forget")
@settings_options
@click.argument("migration")
def forget(config: Path | None, data: str | None, migration: str) -> None:
    """Remove an ended migration and its report."""
    admin_client(config, data).call("DELETE", f"/migrations/{migration}")
    click.echo(f"forgot {migration}")


def _show(job: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(job, indent=2))
        return
    click.echo(f"migration  {job['id']}\nfrom       {job['endpoint']}/{job['source_bucket']}/{job['prefix']}")
    click.echo(f"to         {job['target_bucket']}{' (read through)' if job['read_through'] else ''}")
    state = f"{job['state']} {job['reason']}".rstrip()
    click.echo(f"state      {state}\nprogress   {_progress(job)}")
    for kind, count in job.get("notes", {}).items():
        if count:
            click.echo(f"{kind:<10} {count} (see `atoll migrate report {job['id']}`)")


def _done(job: dict[str, Any]) -> int:
    tallies = job["tallies"]
    return sum(tallies.get(name, 0) for name in ("copied", "kept", "vanished", "failed"))


def _progress(job: dict[str, Any]) -> str:
    tallies = job["tallies"]
    if not job["listed_once"]:
        return f"listing, {tallies.get('listed', 0)} keys so far"
    size = human_size(tallies.get("bytes", 0))
    return f"pass {job['pass']}, {_done(job)} of {tallies.get('queued', 0)} keys, {size} copied"
