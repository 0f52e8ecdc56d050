"""`atoll serve`: the same server over a data folder that must exist."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.wiring.options import catalog_option, root_key_option, settings_of, settings_options
from gateway.wiring.run import run


@click.command("serve")
@settings_options
@click.option("--listen", metavar="HOST:PORT", help="Where to listen. [ATOLL_LISTEN, default 127.0.0.1:9000]")
@catalog_option
@root_key_option
@click.option("--init", is_flag=True, help="Make the deployment if the data folder holds none.")
def command(config: Path | None, init: bool, **flags: str | None) -> None:
    """Run the S3 server, for service managers.

    Unlike `up` it refuses a data folder without a deployment (a disk that is not mounted, say) instead of beginning
    a new one there.
    """
    run(settings_of(config, **flags), may_create=init)
