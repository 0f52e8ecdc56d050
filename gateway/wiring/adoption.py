"""A restored catalog meets its nodes and its key where they are now."""

from __future__ import annotations

import asyncio
from pathlib import Path

from msgspec.structs import replace

from backends.disk import read_marker
from backends.disk.salvage import SalvagedFolder
from backends.errors import BackendError
from catalog.interface import Catalog, Transaction
from core.errors import StartRefused
from engine.keyring import Keyring, LocalKeyWrapper, WrongRootKey
from gateway.wiring.credentials import restore_credentials
from gateway.wiring.deployment import load
from gateway.wiring.nodes import NODE_ROW, node_key, read_nodes
from gateway.wiring.root_key import default_path
from gateway.wiring.secret_files import create_private_folder, write_secret
from gateway.wiring.settings import Settings


async def adopt(
    catalog: Catalog, wrapper: LocalKeyWrapper, root: Path, folders: dict[Path, SalvagedFolder], warnings: list[str]
) -> None:
    """Check the nodes' markers with the restored deployment's key, note in their rows where they are, and write the
    root user's access key; `root` is the data folder, absolute. What can't be done is told in `warnings`. Raises
    StartRefused for a catalog without a deployment."""
    row = await load(catalog)
    if row is None or not row.secret:
        raise StartRefused("the snapshot holds no deployment")
    try:
        keyring = await Keyring.open(catalog, wrapper)
        secret = LocalKeyWrapper(await keyring.unwrap_content_key(row.id, row.id, 0, row.secret))
    except WrongRootKey as error:
        warnings.append(f"the root key was rotated after this snapshot was begun: {error}; start with that key")
        return
    await restore_credentials(root, catalog, secret)
    marker_key = secret.derive(b"node-marker/1")
    places: dict[bytes, Path] = {}
    for path in folders:
        try:
            places[(await asyncio.to_thread(read_marker, path, marker_key)).node_id] = path
        except BackendError as error:
            warnings.append(f"{path} is not used: {error}")
    rows = await catalog.read(read_nodes)
    for node_id in places.keys() - rows.keys():
        warnings.append(f"{places[node_id]} is a node that the catalog does not know: add it with its folder")
    for node_id in rows.keys() - places.keys():
        warnings.append(f"node {rows[node_id].name} is not among the folders: it stays down until it is named")

    async def note(txn: Transaction) -> None:
        for node_id, path in places.items():
            if node_id in rows:
                hint = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
                txn.put(node_key(node_id), NODE_ROW.encode(replace(rows[node_id], folder=hint)))

    await catalog.transact(note)


def put_root_key(settings: Settings, wrapper: LocalKeyWrapper, source: Path, deployment: bytes) -> list[str]:
    """Put the root key where the server will look for it, unless something is there. What an operator must do, if
    anything."""
    target = settings.root_key_file or default_path(deployment)
    if target.exists():
        try:
            if LocalKeyWrapper.from_file(target).key_id == wrapper.key_id:
                return []
        except StartRefused:
            pass
        return [f"{target} holds another root key than the one given: the server would start with that one"]
    create_private_folder(target.parent)
    content = source.read_bytes()
    text = content.hex().encode() if len(content) == 32 else content.strip()
    write_secret(target, text + b"\n")
    return []
