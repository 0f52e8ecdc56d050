"""The root key's file: outside the data folder, made at first start, replaced by a rotation.

A rotation writes `<file>.next` first; once the catalog has changed over, the old file becomes `<file>.<its key id>`
(backups of the catalog from before need it) and the next one takes its place. A start that finds the catalog ahead of
the files finishes that.
"""

from __future__ import annotations

import os
from pathlib import Path

from core.crashpoints import reach
from core.errors import StartRefused
from engine.keyring import ROOT_LENGTH, LocalKeyWrapper
from gateway.wiring.secret_files import create_private_folder, read_secret, sync_folder, write_secret


def default_path(deployment_id: bytes) -> Path:
    """`$XDG_CONFIG_HOME/atoll/<deployment id>.key`, below `~/.config` when that is not set."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if base.startswith("/") else Path.home() / ".config"
    return folder / "atoll" / f"{deployment_id.hex()}.key"


class RootKeyFile:
    """The key file of one deployment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._next = path.with_name(path.name + ".next")

    def make(self) -> LocalKeyWrapper:
        """Write a new root key, unless a start that was cut short left one."""
        create_private_folder(self.path.parent)
        if not self.path.exists():
            write_secret(self.path, os.urandom(ROOT_LENGTH).hex().encode() + b"\n")
        return self.read()

    def read(self) -> LocalKeyWrapper:
        """The key in force as far as the files tell. Raises StartRefused."""
        try:
            return _parse(self.path, read_secret(self.path))
        except FileNotFoundError as error:
            raise StartRefused(
                f"the root key file {self.path} is missing; put the exported key back there, or name its place with "
                f"ATOLL_ROOT_KEY_FILE: without it nothing that is stored can be read"
            ) from error

    def text(self, key_id: str) -> str:
        """The key `key_id` as `atoll keys export` prints it: 64 hex digits. Raises StartRefused when the file holds
        another one, as when a rotation was cut short: who keeps that believes to be safe."""
        root = _root_of(self.path, read_secret(self.path))
        if LocalKeyWrapper(root).key_id != key_id:
            raise StartRefused(f"{self.path} does not hold the root key {key_id} that is in force")
        return root.hex()

    def read_next(self) -> LocalKeyWrapper | None:
        """The key of a rotation that was begun, if any."""
        try:
            return _parse(self._next, read_secret(self._next))
        except FileNotFoundError:
            return None

    def make_next(self) -> LocalKeyWrapper:
        """Write the key that a rotation will put in force; goes on with one that was begun."""
        if not self._next.exists():
            write_secret(self._next, os.urandom(ROOT_LENGTH).hex().encode() + b"\n")
        key = self.read_next()
        assert key is not None
        return key

    def advance(self, old: LocalKeyWrapper) -> None:
        """The catalog has changed over: the next key takes the place of `old`, which is kept beside."""
        kept = self.path.with_name(f"{self.path.name}.{old.key_id}")
        if not kept.exists():
            os.link(self.path, kept)
            sync_folder(self.path.parent)
        reach("rotation-kept")
        try:
            self._next.replace(self.path)
        except FileNotFoundError:
            if self.read().key_id == old.key_id:
                raise
            # A process that started meanwhile has seen the catalog ahead of the files, and did the same.
        sync_folder(self.path.parent)


def _parse(path: Path, content: bytes) -> LocalKeyWrapper:
    return LocalKeyWrapper(_root_of(path, content))


def _root_of(path: Path, content: bytes) -> bytes:
    try:
        return content if len(content) == ROOT_LENGTH else bytes.fromhex(content.decode("ascii").strip())
    except ValueError as error:
        raise StartRefused(f"{path} holds no root key: 64 hex digits are expected") from error
