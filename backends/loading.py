"""Finding backends by name: built-in ones and those that other packages register."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points

from backends.interface import Backend
from core.errors import ConfigError

GROUP = "atoll.backends"


class UnknownBackend(ConfigError):
    """No installed package registers a backend of this name."""


def available_backends() -> list[str]:
    """Names that `load_backend` knows, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def load_backend(name: str) -> type[Backend]:
    """The class registered as `name` in the entry-point group `atoll.backends`; its arguments are its own.

    Raises UnknownBackend, with the nearest name, if there is none; ConfigError if it can't be imported or if two
    packages claim the name.
    """
    found = {entry.value: entry for entry in entry_points(group=GROUP, name=name)}
    if not found:
        known = available_backends()
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known) or 'none'}"
        raise UnknownBackend(f"there is no backend {name!r}; {hint}")
    if len(found) > 1:
        raise ConfigError(f"several packages register a backend {name!r}: {', '.join(sorted(found))}")
    return _load(next(iter(found.values())))


def _load(entry: EntryPoint) -> type[Backend]:
    try:
        loaded = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the backend {entry.name!r} ({entry.value}) can't be imported: {error}") from error
    if not isinstance(loaded, type):
        raise ConfigError(f"the backend {entry.name!r} ({entry.value}) is not a class")
    return loaded
