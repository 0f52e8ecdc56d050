"""The signed file that says which node a folder is.

`node.marker` is two lines: a JSON object (format, node, deployment) and the HMAC-SHA-256 of that line under a key of
the deployment. An empty mount point has none, another node's disk has another one, and neither is mistaken for ours.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from backends.disk.system import sync_folder, translate, write_all
from backends.errors import WrongIdentity
from core.ids import ID_LENGTH

MARKER = "node.marker"
PIECES = "pieces"
INCOMING = "incoming"

_FORMAT = 1
_NEW_MARKER = ".node.marker.new"
_MAX_MARKER = 4096
#: What may lie in a folder that is about to become a node: a new file system's own, and our own interrupted attempt's.
_HARMLESS = {"lost+found", _NEW_MARKER, PIECES, INCOMING}


@dataclass(frozen=True, slots=True)
class NodeMarker:
    """Which node a folder is, and of which deployment. Both ids are 16 bytes."""

    node_id: bytes
    deployment_id: bytes

    def __post_init__(self) -> None:
        if len(self.node_id) != ID_LENGTH or len(self.deployment_id) != ID_LENGTH:
            raise ValueError(f"ids of a marker are {ID_LENGTH} bytes")

    def seal(self, key: bytes) -> bytes:
        """The marker file's content, signed with `key`."""
        fields = {"format": _FORMAT, "node": self.node_id.hex(), "deployment": self.deployment_id.hex()}
        line = json.dumps(fields).encode()
        return line + b"\n" + _signature(line, key) + b"\n"

    @classmethod
    def unseal(cls, content: bytes, key: bytes) -> Self:
        """Parse and verify a marker file. Raises WrongIdentity if it is damaged or not signed with `key`."""
        line, _, rest = content.partition(b"\n")
        if not hmac.compare_digest(rest.strip(), _signature(line, key)):
            raise WrongIdentity(f"{MARKER} is damaged or was signed by another deployment")
        fields = json.loads(line)
        if fields["format"] != _FORMAT:
            raise WrongIdentity(f"{MARKER} has format {fields['format']}; this version reads format {_FORMAT}")
        return cls(bytes.fromhex(fields["node"]), bytes.fromhex(fields["deployment"]))


def _signature(line: bytes, key: bytes) -> bytes:
    return hmac.new(key, b"atoll/node-marker/1\n" + line, hashlib.sha256).hexdigest().encode()


def read_marker(path: Path | str, key: bytes) -> NodeMarker:
    """Which node the folder `path` is. Raises WrongIdentity if it is none (unmounted, never initialised) or forged."""
    try:
        with Path(path, MARKER).open("rb") as file:
            content = file.read(_MAX_MARKER)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise WrongIdentity(f"{path} has no {MARKER}: not mounted, or never initialised") from error
    except OSError as error:
        raise translate(error, f"reading {MARKER} of {path}") from error
    return NodeMarker.unseal(content, key)


def initialise(path: Path | str, marker: NodeMarker, key: bytes) -> None:
    """Make `path` (created if missing, its parents too) the folder of the node `marker`, durably.

    Succeeds again for the same marker, so an interrupted set-up may simply be repeated. Raises WrongIdentity if the
    folder is another node's or holds anything else: a folder is never taken over.
    """
    folder = Path(path)
    try:
        _make_durable_folder(folder)
        present = {entry.name for entry in os.scandir(folder)}
        if MARKER in present:
            if read_marker(folder, key) != marker:
                raise WrongIdentity(f"{folder} is the folder of another node")
            return
        strangers = present - _HARMLESS
        if strangers:
            raise WrongIdentity(f"{folder} is not empty ({sorted(strangers)[0]!r}): it can't become a node's folder")
        _write(folder, marker.seal(key))
    except OSError as error:
        raise translate(error, f"initialising {folder}") from error


def _make_durable_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_durable_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _sync(folder.parent)


def _write(folder: Path, content: bytes) -> None:
    for name in (PIECES, INCOMING):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    new = folder / _NEW_MARKER
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, [content])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # The marker comes last: where it is, the rest is.
    _sync(folder)
    new.rename(folder / MARKER)
    _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_folder(descriptor, ".")
    finally:
        os.close(descriptor)
