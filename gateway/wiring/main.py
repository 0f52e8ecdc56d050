"""The command `atoll`: a group whose commands are loaded when they are used."""

from __future__ import annotations

import importlib
import sys

import click

from core.errors import AtollError, ConfigError, StartRefused

#: Command -> its one line of help. The module of a command has its name.
COMMANDS = {
    "up": "Run everything here: the S3 server over six embedded nodes.",
    "serve": "Run the S3 server over a data folder that exists.",
    "status": "Show nodes, space, health of objects and background work.",
    "check": "Read every object; report damage and repair it if asked.",
    "user": "Add, list and remove users.",
    "node": "Add or remove nodes.",
    "keys": "Export or rotate the root key.",
    "catalog": "Back up, restore, copy or move the catalog.",
    "restore": "Make a lost data folder again from its nodes and the root key.",
    "migrate": "Copy buckets in from another S3 service.",
    "worker": "List background workers, or run one now.",
}

EXIT_FAILED, EXIT_CONFIG, EXIT_REFUSED = 1, 2, 3


class LazyGroup(click.Group):
    """Knows its commands by name; imports a command's module only to run it or to print its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"gateway.wiring.commands.{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="atoll")
def group() -> None:
    """Atoll: S3-compatible storage, sealed and erasure-coded over many nodes.

    Settings come from atoll.toml, ATOLL_* variables and flags, in rising precedence.
    """


def main() -> None:
    """Run the command line. Our own errors are one sentence and an exit code: 2 for a setting that can't be used,
    3 for a state in which starting would risk data, 1 for anything else."""
    try:
        group.main(prog_name="atoll", standalone_mode=True)
    except AtollError as error:
        click.echo(f"atoll: {error}", err=True)
        code = EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED
        sys.exit(EXIT_REFUSED if isinstance(error, StartRefused) else code)


if __name__ == "__main__":
    main()
