"""Killed while key files change: the next start has the right key, whichever step was the last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog.memory import MemoryCatalog
from core import crashpoints
from engine.keyring import LocalKeyWrapper
from gateway.wiring.deployment import Deployment, open_deployment
from gateway.wiring.secret_files import read_secret, write_secret

#: The instants of a rotation, and whether the new key is in force from there on.
INSTANTS = {
    "rotation-started": False,
    "rotation-batch": False,
    "rotation-wrapped": False,
    "rotation-switched": True,
    "rotation-kept": True,
}


class Killed(BaseException):
    """Stands for the end of the process."""


def killed(point: str) -> None:
    raise Killed(point)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    crashpoints.disarm()


class Machine:
    """A catalog and a key file, of which processes come and go."""

    def __init__(self, folder: Path) -> None:
        self.catalog = MemoryCatalog()
        self.path = folder / "root.key"

    async def start(self) -> Deployment:
        return await open_deployment(
            self.catalog, data=Path("data"), root_key_file=self.path, now_us=1, may_create=True
        )

    async def rotate(self, held: Deployment) -> str:
        """As `atoll keys rotate` does; the new key's id."""
        old, new = held.key_file.read(), held.key_file.make_next()
        await held.keyring.rotate(new)
        held.key_file.advance(old)
        return new.key_id

    def files(self) -> set[str]:
        return {path.name for path in self.path.parent.iterdir()}

    @property
    def key_id(self) -> str:
        return LocalKeyWrapper.from_file(self.path).key_id


@pytest.mark.parametrize("instant", INSTANTS)
async def test_rotation_cut_short(tmp_path: Path, instant: str) -> None:
    machine = Machine(tmp_path)
    held = await machine.start()
    first, secret = machine.key_id, held.secret.key_id
    crashpoints.arm(instant, killed)
    with pytest.raises(Killed):
        await machine.rotate(held)
    held = await machine.start()
    assert held.secret.key_id == secret
    assert held.keyring.root_key_id == machine.key_id
    assert (machine.key_id != first) is INSTANTS[instant]
    kept = {f"root.key.{first}"} if INSTANTS[instant] else {"root.key.next"}
    assert machine.files() == {"root.key", *kept}
    second = await machine.rotate(held)
    held = await machine.start()
    assert held.keyring.root_key_id == machine.key_id == second
    assert held.secret.key_id == secret


@pytest.mark.parametrize("instant", ["rotation-batch", "rotation-kept"])
async def test_the_recovery_is_cut_short_too(tmp_path: Path, instant: str) -> None:
    machine = Machine(tmp_path)
    held = await machine.start()
    first = machine.key_id
    crashpoints.arm("rotation-switched", killed)
    with pytest.raises(Killed):
        await machine.rotate(held)
    crashpoints.arm(instant, killed)
    with pytest.raises(Killed):
        await machine.start()
    held = await machine.start()
    assert held.keyring.root_key_id == machine.key_id != first
    assert machine.files() == {"root.key", f"root.key.{first}"}
    assert await held.keyring.finish_rotation() == 0, "what the former key wrapped was left in the catalog"


def test_a_secret_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the content was durable: no empty key file stands in the way of the next start."""
    path = tmp_path / "root.key"

    def cut(descriptor: int) -> None:
        raise Killed("fsync")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", cut)
        patched.setattr(Path, "unlink", lambda *_, **__: None)  # the dead tidy nothing up
        with pytest.raises(Killed):
            write_secret(path, b"content")
    assert not path.exists()
    assert list(tmp_path.iterdir()) != []
    write_secret(path, b"content")
    assert read_secret(path) == b"content"
    assert [found.name for found in tmp_path.iterdir()] == ["root.key"]
    with pytest.raises(FileExistsError):
        write_secret(path, b"other")
    assert read_secret(path) == b"content"
    assert [found.name for found in tmp_path.iterdir()] == ["root.key"]
