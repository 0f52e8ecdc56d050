"""Loaded by a server process that tests start with this folder on its path: leaves one kind of sync out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import lmdb

from backends.disk import syncs, together


def _nothing(_: Any) -> None:
    """Instead of a sync."""


def _careless(*arguments: Any, **options: Any) -> Any:
    return _open(*arguments, **{**options, "sync": False, "metasync": False})


def _half(descriptors: Sequence[int], *, data_only: bool) -> Any:
    if data_only is (_left_out == "files"):
        return [None] * len(descriptors)
    return _sync_all(descriptors, data_only=data_only)


_open: Any = lmdb.open
_sync_all: Any = syncs.sync_all
_left_out = os.environ.get("LEFT_OUT", "")
for _module, _name, _replacement, _kind in (
    (os, "fdatasync", _nothing, "files"),
    (os, "fsync", _nothing, "folders"),
    (lmdb, "open", _careless, "catalog"),
):
    if _kind == _left_out:
        setattr(_module, _name, _replacement)
if _left_out in ("files", "folders"):
    setattr(together, "sync_all", _half)  # noqa: B010 - typed or not
