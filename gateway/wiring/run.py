"""Run a gateway in the foreground: the process around what `build` joins."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click
import uvloop

from core.errors import StartRefused
from core.logs import configure
from core.memory import keep_freed_memory, spare_long_lived
from gateway.wiring.build import Gateway
from gateway.wiring.credentials import example
from gateway.wiring.guest import live
from gateway.wiring.lock import folder_lock
from gateway.wiring.nursery import Nursery
from gateway.wiring.secret_files import create_private_folder
from gateway.wiring.settings import Settings


def run(settings: Settings, *, may_create: bool) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal hurries. A gateway that the others declared dead while
    it was stopped or cut off is closed, and another one made in its place. Raises ConfigError and StartRefused."""
    keep_freed_memory()
    _raise_descriptor_limit()
    nursery = Nursery(partial(live, settings)) if settings.process_count > 1 else None
    try:
        _run(settings, nursery, may_create=may_create)
    finally:
        if nursery is not None:
            nursery.close()


def _run(settings: Settings, nursery: Nursery | None, *, may_create: bool) -> None:
    # Where the catalog is elsewhere the data folder holds nothing that can't be made again.
    may_make_folder = may_create or bool(settings.catalog.url)
    with _data_folder(settings.data, may_make_folder), folder_lock(settings.data):
        plain = settings.log.plain or sys.stderr.isatty()
        sink = configure(sys.stderr, level=settings.log.level, access_log=settings.log.access, plain=plain)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                while runner.run(_serve(settings, nursery, may_create)):
                    gc.unfreeze()  # what the former gateway was made of may go
        finally:
            sink.close()


async def _serve(settings: Settings, nursery: Nursery | None, may_create: bool) -> bool:
    """Serve until told to stop; whether to begin anew."""
    stop = asyncio.Event()
    again = False

    def on_lost() -> None:
        nonlocal again
        again = not stop.is_set()
        gateway.hurry()  # nothing of what is under way can be committed
        stop.set()

    gateway = Gateway(settings, on_lost, on_moved=stop.set, nursery=nursery)

    def on_stop() -> None:
        nonlocal again
        again = False
        if stop.is_set():
            gateway.hurry()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_stop)
    loop.add_signal_handler(signal.SIGHUP, gateway.reload_certificate)
    try:
        endpoint = await gateway.start(may_create=may_create)
        if gateway.credentials.fresh:
            click.echo("The root user's access key, shown this once (kept in the data folder's file `credentials`):\n")
            click.echo(example(endpoint, settings.region, gateway.credentials.key))
        for warning in gateway.warnings():
            click.echo(f"warning: {warning}", err=True)
        click.echo(f"ready {endpoint}")
        spare_long_lived()
        await stop.wait()
    finally:
        await gateway.close()
    return again


@contextlib.contextmanager
def _data_folder(folder: Path, may_make: bool) -> Iterator[None]:
    if not may_make and not folder.is_dir():
        raise StartRefused(f"there is no data folder {folder}; is its disk mounted?")
    try:
        create_private_folder(folder)
        yield
    except OSError as error:
        if error.filename is None or not str(error.filename).startswith(str(folder)):
            raise
        raise StartRefused(f"cannot use {error.filename}: {error.strerror}") from error


def _raise_descriptor_limit() -> None:
    """Every connection and every open piece is a descriptor; the soft limit is often a historical 1,024."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
