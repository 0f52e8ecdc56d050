"""`atoll check`: every object read and verified, damage named, repaired if asked."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.wiring.options import admin_client, human_size, settings_options

EXIT_DAMAGED = 4


@click.command("check")
@settings_options
@click.option("--repair", is_flag=True, help="Rebuild what is damaged or missing.")
@click.option("--resume", default="", metavar="PLACE", help="Go on from where an interrupted check stopped.")
@click.option("--json", "as_json", is_flag=True, help="The final report, machine-readable.")
def command(config: Path | None, data: str | None, repair: bool, resume: str, as_json: bool) -> None:
    """Read every piece of every object and verify it.

    Damage is named and, with --repair, repaired from the other pieces. Interrupting is safe: the place to resume from
    is printed. Exit code 4: damage was found and not repaired.
    """
    console = Console(stderr=True)
    damages: list[str] = []
    last: dict[str, object] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("proving pieces", total=None)
            query = {"repair": "yes" if repair else "no", "resume": resume}
            for step in admin_client(config, data).stream("POST", "/check", **query):
                last = step
                for damage in step["damage"]:
                    damages.append(damage)
                    if not as_json:
                        click.echo(damage)
                if step["phase"] == "pieces":
                    progress.update(task, completed=step["segments"], total=step["total"])
                else:
                    progress.update(task, description="reading objects", completed=step["objects"], total=None)
    except KeyboardInterrupt:
        place = last.get("place", "")
        click.echo(f"\ninterrupted; go on with: atoll check {'--repair ' if repair else ''}--resume {place}", err=True)
        sys.exit(130)
    if as_json:
        click.echo(json.dumps({**last, "damage": damages}, indent=2))
    else:
        click.echo(
            f"{last['segments']} segments with {last['pieces']} sound pieces, {last['objects']} objects read, "
            f"{human_size(float(str(last['bytes'])))}: {last['damaged']} segments damaged or short, "
            f"{last['repaired']} repaired; {last['unreadable']} objects can't be read; "
            f"{last['unreachable']} pieces on nodes that did not answer"
        )
    if last["unrepaired"]:
        sys.exit(EXIT_DAMAGED)
