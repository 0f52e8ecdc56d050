"""`atoll status`: how the server and everything below it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table

from gateway.wiring.options import admin_client, human_size, settings_options


@click.command("status")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def command(config: Path | None, data: str | None, as_json: bool) -> None:
    """Show nodes, space, health of objects and background work."""
    status = admin_client(config, data).call("GET", "/status")
    if as_json:
        click.echo(json.dumps(status, indent=2))
        return
    _print(Console(), status)


def _snapshots(shown: dict[str, Any]) -> str:
    if not shown["enabled"]:
        return "[bold yellow]off[/]"
    if not shown["exists"]:
        return "none yet"
    behind = f"{shown['lag_seconds']:.1f} s behind" if shown["lag_seconds"] else "hold every change"
    return f"{behind}; newest of {shown['point']}, {shown['parts']} parts, {human_size(shown['bytes'])} on the nodes"


def _print(console: Console, status: dict[str, Any]) -> None:
    title = f"Atoll {status['version']} at {status['endpoint']}, deployment {status['deployment']}"
    if status["processes"] > 1:
        title += f", {status['processes']} processes"
    console.print(title, highlight=False, soft_wrap=True)
    for warning in status["warnings"]:
        console.print(f"[bold yellow]warning[/] {warning}", highlight=False, soft_wrap=True)
    columns = ("node", "state", "pieces", "device", "device used", "free", "domain")
    nodes = Table(*columns, title="Nodes", title_justify="left")
    for node in status["nodes"]:
        state = "[green]up[/]" if node["up"] else f"[red]down[/] {node['error']}"
        if node["leaving"]:
            state += ", being emptied"
        used, free = (human_size(node[name]) if node["up"] else "" for name in ("device_used", "free"))
        pieces = "counting" if node["piece_bytes"] is None else human_size(node["piece_bytes"])
        nodes.add_row(node["name"], state, pieces, node["device"], used, free, node["domain"])
    console.print(nodes)
    if len(status["gateways"]) > 1:
        _print_gateways(console, status["gateways"])
    health = status["health"]
    console.print(f"health of objects: [bold]{health['state']}[/]", highlight=False, soft_wrap=True)
    for name, count in health["counts"].items():
        console.print(f"  {name.replace('_', ' ')}: {count}", highlight=False, soft_wrap=True)
    for damage in health["damage"]:
        console.print(f"  {damage}", highlight=False, soft_wrap=True)
    console.print(f"snapshots of the catalog: {_snapshots(status['snapshots'])}", highlight=False, soft_wrap=True)
    workers = Table("worker", "state", "progress", title="Background work", title_justify="left")
    for worker in status["workers"]:
        workers.add_row(worker["name"], worker["state"], worker["last_error"] or worker["progress"])
    console.print(workers)


def _print_gateways(console: Console, gateways: list[dict[str, Any]]) -> None:
    columns = ("gateway", Column("host", no_wrap=True), "version", "nodes that it finds down")
    table = Table(*columns, title="Gateways", title_justify="left")
    for gateway in gateways:
        down = [f"{node['name']}: {node['error']}" for node in gateway["nodes"] if not node["up"]]
        host = "this one" if gateway["self"] else gateway["host"]
        table.add_row(gateway["endpoint"], host, gateway["version"], "\n".join(down) or "none")
    console.print(table)
