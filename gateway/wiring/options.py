"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.admin.client import AdminClient
from gateway.wiring.settings import Settings, load_settings

F = TypeVar("F", bound=Callable[..., Any])


def settings_options(function: F) -> F:
    """`--config` and `--data`."""
    function = click.option("--data", metavar="FOLDER", help="Data folder. [ATOLL_DATA, default ./data]")(function)
    return click.option(
        "--config", type=click.Path(path_type=Path), help="Settings file. [ATOLL_CONFIG, default ./atoll.toml]"
    )(function)


def catalog_option(function: F) -> F:
    """`--catalog`."""
    return click.option(
        "--catalog",
        metavar="URL",
        help="Database of the catalog, postgresql://…; better not here when it holds a password. "
        "[ATOLL_CATALOG, default: in the data folder]",
    )(function)


def root_key_option(function: F) -> F:
    """`--root-key-file`."""
    return click.option(
        "--root-key-file",
        metavar="FILE",
        help="The root key's file. [ATOLL_ROOT_KEY_FILE, default ~/.config/atoll/DEPLOYMENT.key]",
    )(function)


def settings_of(config: Path | None, *, catalog: str | None = None, **flags: Any) -> Settings:
    """Settings with the flags that were given. Raises ConfigError."""
    given = {name: value for name, value in flags.items() if value is not None}
    if catalog is not None:
        given["catalog"] = {"url": catalog}
    return load_settings(os.environ, config=config, flags=given)


def admin_client(config: Path | None, data: str | None) -> AdminClient:
    """A client of the server that runs with the data folder of the settings."""
    return AdminClient(settings_of(config, data=data).data)


def human_size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
