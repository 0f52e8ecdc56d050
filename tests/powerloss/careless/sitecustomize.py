"""Loaded by a server process that tests start with this folder on its path: leaves one kind of sync out."""

from __future__ import annotations

import os
from typing import Any

import lmdb


def _nothing(_: Any) -> None:
    """Instead of a sync."""


def _careless(*arguments: Any, **options: Any) -> Any:
    return _open(*arguments, **{**options, "sync": False, "metasync": False})


_open: Any = lmdb.open
_left_out = os.environ.get("LEFT_OUT", "")
for _module, _name, _replacement, _kind in (
    (os, "fdatasync", _nothing, "files"),
    (os, "fsync", _nothing, "folders"),
    (lmdb, "open", _careless, "catalog"),
):
    if _kind == _left_out:
        setattr(_module, _name, _replacement)
