"""`atoll up`: everything in one process, made at first start."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.wiring.options import catalog_option, root_key_option, settings_of, settings_options
from gateway.wiring.run import run


@click.command("up")
@settings_options
@click.option("--listen", metavar="HOST:PORT", help="Where to listen. [ATOLL_LISTEN, default 127.0.0.1:9000]")
@catalog_option
@root_key_option
def command(config: Path | None, **flags: str | None) -> None:
    """Run the S3 server over six embedded nodes, in the foreground.

    The first start makes the data folder, the nodes, the root user's access key (shown once) and the root encryption
    key (outside the data folder). Prints `ready http://HOST:PORT` once it serves.
    """
    run(settings_of(config, **flags), may_create=True)
