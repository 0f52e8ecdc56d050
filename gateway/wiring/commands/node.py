"""`atoll node`: where pieces may lie. `atoll status` lists the nodes."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.wiring.options import admin_client, settings_options


@click.group("node")
def command() -> None:
    """Add or remove nodes, at all gateways at once."""


@command.command("add")
@settings_options
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", default="", help="Name of the node; made when not given.")
@click.option("--domain", default="", help="What fails together with it; a domain of its own when not given.")
def add(config: Path | None, data: str | None, folder: Path, name: str, domain: str) -> None:
    """Make FOLDER (an empty one, or a node that was removed) a node of the deployment.

    Gateways on other machines look for it at the same place, or among the folders of their setting `nodes`.
    """
    body = {"folder": str(folder.absolute()), "name": name, "domain": domain}
    node = admin_client(config, data).call("POST", "/nodes", body)
    click.echo(f"added {node['name']} in the domain {node['domain']}")


@command.command("remove")
@settings_options
@click.argument("name")
@click.option("--lost", is_flag=True, help="It won't come back: don't wait to delete what it held.")
def remove(config: Path | None, data: str | None, name: str, lost: bool) -> None:
    """Empty the node NAME and let it go.

    It gets no new pieces from now on; those that it holds are rebuilt on other nodes in the background, and then it
    vanishes from `atoll status`.
    """
    admin_client(config, data).call("DELETE", "/nodes", name=name, lost="yes" if lost else "no")
    click.echo(f"{name} is being emptied; it vanishes from `atoll status` when that is done")
