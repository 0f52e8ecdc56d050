"""Settings from layers: a file, the environment, flags; later layers win.

Settings are frozen dataclasses whose fields have defaults. A layer is a nested mapping from one source; a value may be
the field's own type or text (the environment knows nothing else). Unknown keys are errors that name the nearest known
one, because a misspelt limit that silently does nothing is worse than a refusal to start.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from core.errors import ConfigError

T = TypeVar("T")

_SIZE_UNITS = {
    "": 1, "b": 1,
    "k": 1000, "kb": 1000, "m": 1000**2, "mb": 1000**2, "g": 1000**3, "gb": 1000**3, "t": 1000**4, "tb": 1000**4,
    "ki": 1 << 10, "kib": 1 << 10, "mi": 1 << 20, "mib": 1 << 20, "gi": 1 << 30, "gib": 1 << 30,
    "ti": 1 << 40, "tib": 1 << 40,
}  # fmt: skip
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*\Z")
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


class Secret:
    """A string that shows itself only when asked to."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(…)"


def parse_size(text: str) -> int:
    """Bytes from `512`, `64 KiB`, `1.5GB`. Raises ValueError."""
    match = _QUANTITY.match(text)
    unit = _SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError("a size such as 512, 64KiB or 10GB")
    return int(float(match[1]) * unit)


def parse_duration(text: str) -> float:
    """Seconds from `30`, `250ms`, `5m`, `1.5h`. Raises ValueError."""
    match = _QUANTITY.match(text)
    unit = _DURATION_UNITS.get(match[2].lower() or "s") if match else None
    if match is None or unit is None:
        raise ValueError("a duration such as 30s, 250ms or 5m")
    return float(match[1]) * unit


Size = Annotated[int, parse_size]
Duration = Annotated[float, parse_duration]


@dataclass(frozen=True, slots=True)
class Layer:
    """Values from one place; `source` is named in errors."""

    source: str
    values: Mapping[str, Any]


def file_layer(path: Path) -> Layer:
    """The layer of a TOML file. Raises ConfigError when it can't be read or parsed."""
    try:
        with path.open("rb") as file:
            return Layer(str(path), tomllib.load(file))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def environment_layer(cls: type[Any], environ: Mapping[str, str], prefix: str, ignore: Iterable[str] = ()) -> Layer:
    """The layer of the variables that start with `prefix`: `ATOLL_HTTP_IDLE_TIMEOUT` is `http.idle_timeout`.

    Raises ConfigError for a variable with the prefix that names no setting. Lists are separated by commas; lists of
    tables (users) can't be given here.
    """
    names = dict(_variables(cls, prefix))
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(prefix) or variable in ignore:
            continue
        path = names.get(variable)
        if path is None:
            raise ConfigError(f"unknown variable {variable}{_nearest(variable, [*names, *ignore])}")
        table = values
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = text
    return Layer("environment", values)


def load(cls: type[T], layers: Sequence[Layer]) -> T:
    """Build `cls` from `layers`, later ones winning key by key. Raises ConfigError naming the key and its source."""
    result: T = _build(cls, layers, "")
    return result


def _variables(cls: type[Any], prefix: str, path: tuple[str, ...] = ()) -> Iterable[tuple[str, tuple[str, ...]]]:
    for name, kind in typing.get_type_hints(cls, include_extras=True).items():
        if dataclasses.is_dataclass(kind):
            yield from _variables(typing.cast("type[Any]", kind), f"{prefix}{name.upper()}_", (*path, name))
        elif not _is_table_list(kind):
            yield f"{prefix}{name.upper()}", (*path, name)


def _is_table_list(kind: Any) -> bool:
    return typing.get_origin(kind) is tuple and dataclasses.is_dataclass(typing.get_args(kind)[0])


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean {found[0]}?" if found else ""


def _build(cls: Any, layers: Sequence[Layer], path: str) -> Any:
    hints = typing.get_type_hints(cls, include_extras=True)
    arguments: dict[str, Any] = {}
    tables: dict[str, list[Layer]] = {}
    for layer in layers:
        for name, value in layer.values.items():
            where = f"{path}{name}"
            if name not in hints:
                raise ConfigError(f"{layer.source}: unknown key {where}{_nearest(name, hints)}")
            if dataclasses.is_dataclass(hints[name]):
                if not isinstance(value, Mapping):
                    raise ConfigError(f"{layer.source}: {where} must be a table")
                tables.setdefault(name, []).append(Layer(layer.source, value))
            else:
                arguments[name] = _convert(hints[name], value, where, layer.source)
    for name, found in tables.items():
        arguments[name] = _build(hints[name], found, f"{path}{name}.")
    for field in dataclasses.fields(cls):
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if field.name not in arguments and not has_default:
            sources = ", ".join(layer.source for layer in layers)
            raise ConfigError(f"{sources}: {path}{field.name} is missing")
    try:
        return cls(**arguments)
    except ValueError as error:
        sources = ", ".join(layer.source for layer in layers) or "defaults"
        raise ConfigError(f"{sources}: {path.rstrip('.')}: {error}".replace(": : ", ": ")) from error


def _convert(kind: Any, value: Any, where: str, source: str) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(one for one in typing.get_args(kind) if one is not type(None))
    if typing.get_origin(kind) is tuple:
        return _convert_list(typing.get_args(kind)[0], value, where, source)
    if typing.get_origin(kind) is Annotated:
        plain, parse = typing.get_args(kind)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
            return plain(value)
    else:
        parse = _PARSERS[kind]
    try:
        if not isinstance(value, str):
            value = _as_text(kind, value)
        return parse(value)
    except ValueError as error:
        raise ConfigError(f"{source}: {where} must be {error}") from error


def _convert_list(kind: Any, value: Any, where: str, source: str) -> tuple[Any, ...]:
    if isinstance(value, str) and not dataclasses.is_dataclass(kind):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{source}: {where} must be a list")
    if not dataclasses.is_dataclass(kind):
        return tuple(_convert(kind, one, where, source) for one in value)
    if not all(isinstance(one, Mapping) for one in value):
        raise ConfigError(f"{source}: {where} must be a list of tables")
    return tuple(_build(kind, [Layer(source, one)], f"{where}[{index}].") for index, one in enumerate(value))


def _as_text(kind: Any, value: Any) -> str:
    """TOML's own booleans and numbers as the text that the parsers take; ValueError for a value of another kind."""
    if isinstance(value, bool) and kind is bool:
        return "true" if value else "false"
    if isinstance(value, int) and not isinstance(value, bool) and kind in (int, float):
        return str(value)
    if isinstance(value, float) and kind is float:
        return str(value)
    raise ValueError(_EXPECTED.get(kind, "text"))


def _parse_bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("true or false")


def _parse_int(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]+", text):
        raise ValueError("a whole number")
    return int(text)


def _parse_float(text: str) -> float:
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        raise ValueError("a number")
    return float(text)


_PARSERS: dict[Any, Callable[[str], Any]] = {
    str: str,
    int: _parse_int,
    float: _parse_float,
    bool: _parse_bool,
    Path: Path,
    Secret: Secret,
}
_EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", Size: "a size such as 64KiB"}
