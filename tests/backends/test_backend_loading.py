"""Backends are found by their entry-point name, and a wrong name or registration is explained."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from backends import loading
from backends.disk import DiskBackend
from backends.loading import UnknownBackend, available_backends, load_backend
from backends.memory import MemoryBackend
from core.errors import ConfigError


def test_built_in_backends_are_found_by_name() -> None:
    assert {"disk", "memory"} <= set(available_backends())
    assert load_backend("disk") is DiskBackend
    assert load_backend("memory") is MemoryBackend


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(UnknownBackend, match="did you mean 'disk'"):
        load_backend("dsik")
    with pytest.raises(UnknownBackend, match=r"known are .*disk"):
        load_backend("zzzzzzzz")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["no_such_module:Thing"], "can't be imported"),
        (["backends.memory:NoSuchClass"], "can't be imported"),
        (["backends.loading:GROUP"], "not a class"),
        (["backends.memory:MemoryBackend", "backends.disk:DiskBackend"], "several packages"),
    ],
)
def test_unusable_registrations_are_config_errors(
    monkeypatch: pytest.MonkeyPatch, values: list[str], message: str
) -> None:
    entries = [EntryPoint("thing", value, loading.GROUP) for value in values]
    monkeypatch.setattr(loading, "entry_points", lambda **_: entries)
    with pytest.raises(ConfigError, match=message):
        load_backend("thing")
