"""`atoll worker`: background work, seen and pushed."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from gateway.wiring.options import admin_client, settings_options


@click.group("worker")
def command() -> None:
    """List background workers, or run one now."""


@command.command("list")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def list_workers(config: Path | None, data: str | None, as_json: bool) -> None:
    """Show every worker, what it does and what it counted."""
    workers = admin_client(config, data).call("GET", "/workers")
    if as_json:
        click.echo(json.dumps(workers, indent=2))
        return
    table = Table("worker", "state", "progress", "counters")
    for worker in workers:
        counters = " ".join(f"{name}={count}" for name, count in worker["counters"].items() if count)
        table.add_row(worker["name"], worker["state"], worker["progress"] or worker["last_error"], counters)
    Console().print(table)


@command.command("run")
@settings_options
@click.argument("name")
def run_worker(config: Path | None, data: str | None, name: str) -> None:
    """Run the worker NAME at full speed until it has nothing left to do."""
    report = admin_client(config, data).call("POST", f"/workers/{name}/run")
    click.echo(json.dumps(report))
