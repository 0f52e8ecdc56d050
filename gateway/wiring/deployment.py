"""What makes a data folder one deployment: its id, root user, embedded nodes and sealed secret, in one catalog row.

The row travels with a backup of the catalog, so a restored catalog knows its nodes and its key file again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from accounts.types import new_canonical_id
from catalog.errors import FutureVersion
from catalog.interface import Catalog, Reader, Transaction
from catalog.prefixes import GATEWAY
from catalog.records import Codec, Flags, Record
from core.errors import StartRefused
from core.ids import new_id
from engine.keyring import Keyring, LocalKeyWrapper, WrongRootKey
from gateway.wiring.root_key import RootKeyFile, default_path
from gateway.wiring.secret_files import write_secret

NODES = 6
_KEY = GATEWAY + b"deployment"
_SECRET_LENGTH = 32
_NOTE = "deployment"  # a file in the data folder of a gateway whose catalog is elsewhere


class DeploymentRow(Record, tag=1, kw_only=True, frozen=True):
    """`secret` is the deployment's 32-byte secret wrapped like a content key: "" until the first start got that far.
    `node_ids` are the first nodes'; `nodes_made` once all of them were initialised and have their rows (nodes.py).
    `maker` is the gateway that makes the deployment, as host:folder, where others could want to.

    Its incompatible bits tell what a program must know to use anything of the deployment. A release whose data the one
    before would misunderstand sets a new bit at its first start: from then on older programs refuse to start."""

    id: bytes
    created_us: int
    root_user: str
    node_ids: tuple[bytes, ...]
    secret: bytes = b""
    nodes_made: bool = False
    exported_key_id: str = ""  # the root key that `keys export` has shown
    maker: str = ""


#: Since 0.2.0: nodes have rows, and their folders are shared by processes, which 0.1.0 can't open any more.
_SHARED_NODES: Final = 1
#: The bits that this program sets and knows.
_NEEDS: Final = _SHARED_NODES

DEPLOYMENT = Codec(DeploymentRow, incompatible=_NEEDS)


@dataclass
class Deployment:
    """An opened deployment. `secret` wraps what is not an object's (access keys) and signs node markers; a rotation of
    the root key leaves it as it is."""

    row: DeploymentRow
    keyring: Keyring
    key_file: RootKeyFile
    secret: LocalKeyWrapper

    @property
    def marker_key(self) -> bytes:
        return self.secret.derive(b"node-marker/1")


async def load(catalog: Catalog) -> DeploymentRow | None:
    """The row, if the catalog holds a deployment. Raises FutureVersion where a newer program changed what is stored
    beyond the understanding of this one."""

    async def get(reader: Reader) -> bytes | None:
        return await reader.get(_KEY)

    data = await catalog.read(get)
    try:
        return None if data is None else DEPLOYMENT.decode(data)
    except FutureVersion as error:
        raise FutureVersion(
            "a newer version of Atoll has used this deployment, and stores what this one does not understand; start "
            f"that version or a newer one ({error})"
        ) from error


async def change(catalog: Catalog, function: Callable[[DeploymentRow], DeploymentRow]) -> DeploymentRow:
    """Rewrite the row in one transaction."""
    return await catalog.transact(lambda txn: change_in(txn, function))


async def change_in(txn: Transaction, function: Callable[[DeploymentRow], DeploymentRow]) -> DeploymentRow:
    """Rewrite the row in a transaction that does more."""
    data = await txn.get(_KEY)
    if data is None:
        raise StartRefused("the catalog lost its deployment record; restore a backup")
    row = function(DEPLOYMENT.decode(data))
    txn.put(_KEY, DEPLOYMENT.encode(row))
    return row


async def open_deployment(
    catalog: Catalog,
    *,
    data: Path,
    root_key_file: Path | None,
    now_us: int,
    may_create: bool,
    nodes: int = NODES,
) -> Deployment:
    """Open what the catalog holds, or begin it with so many nodes. Every step of a first start can be cut short and
    goes on at the next, of the same gateway.

    Raises StartRefused when there is no deployment and none may be made, when the root key is missing or wrong, and
    FutureVersion.
    """
    maker = "" if catalog.local else _name(data)
    row = await load(catalog)
    if row is None:
        if not may_create:
            raise StartRefused(f"{data} holds no deployment; start with `atoll up` or `atoll serve --init` to make one")
        row = DeploymentRow(
            id=new_id(),
            created_us=now_us,
            root_user=new_canonical_id(),
            node_ids=tuple(new_id() for _ in range(nodes)),
            maker=maker,
        )
        first = DEPLOYMENT.encode(row)

        async def begin(txn: Transaction) -> bytes:
            present = await txn.get(_KEY)  # another gateway's, that began it at the same time
            if present is None:
                txn.put(_KEY, first)
            return present or first

        row = DEPLOYMENT.decode(await catalog.transact(begin))
    if not row.nodes_made and row.maker != maker and row.maker:
        raise StartRefused(
            f"the gateway of {row.maker} is making the deployment; wait until it is ready, or start it again there"
        )
    if not catalog.local:
        await asyncio.to_thread(_bind, data, row.id)
    key_file = RootKeyFile(root_key_file or default_path(row.id))
    wrapper = key_file.read() if row.secret else key_file.make()
    keyring = await _open_keyring(catalog, key_file, wrapper)
    if not row.secret:
        row = await _make_secret(catalog, keyring, row)
    if _bits(row) & _NEEDS != _NEEDS:
        row = await change(catalog, _with_needs)
    secret = await keyring.unwrap_content_key(row.id, row.id, 0, row.secret)
    return Deployment(row, keyring, key_file, LocalKeyWrapper(secret))


def _bits(row: DeploymentRow) -> int:
    return row.flags.incompatible if row.flags is not None else 0


def _with_needs(row: DeploymentRow) -> DeploymentRow:
    flags = row.flags or Flags()
    return replace(row, flags=replace(flags, incompatible=flags.incompatible | _NEEDS))


def _name(data: Path) -> str:
    """What the gateway with this data folder is called."""
    return f"{socket.gethostname()}:{data.absolute()}"


def _bind(data: Path, deployment: bytes) -> None:
    """Note in the data folder which deployment it is of, or refuse a catalog of another one."""
    path, own = data / _NOTE, deployment.hex()
    with contextlib.suppress(FileExistsError):
        write_secret(path, own.encode() + b"\n")
    if (noted := path.read_text().strip()) != own:
        raise StartRefused(
            f"the catalog is of deployment {own}, but {data} belongs to {noted}: one of the two settings is wrong"
        )


def bound_to(data: Path) -> str:
    """The deployment, in hex, that a data folder was noted to be of; "" for none."""
    try:
        return (data / _NOTE).read_text().strip()
    except FileNotFoundError:
        return ""


async def _open_keyring(catalog: Catalog, key_file: RootKeyFile, wrapper: LocalKeyWrapper) -> Keyring:
    try:
        return await Keyring.open(catalog, wrapper)
    except WrongRootKey as error:
        following = key_file.read_next()
        if following is None:
            raise StartRefused(f"{key_file.path} is not the root key of this deployment: {error}") from error
        # A rotation changed the catalog over and was cut short before the files followed.
        keyring = await Keyring.open(catalog, following)
        await keyring.finish_rotation()  # before the file tells that all is done: this too may be cut short
        key_file.advance(wrapper)
        return keyring


async def _make_secret(catalog: Catalog, keyring: Keyring, row: DeploymentRow) -> DeploymentRow:
    """The secret lies under a key of its own, kept as a bucket's key is, so that rotating the root covers it."""
    new = keyring.new_bucket_key(row.id)

    async def put(txn: Transaction) -> None:
        await keyring.put_bucket_key(txn, new)

    await catalog.transact(put)
    wrapped = await keyring.wrap_content_key(row.id, row.id, 0, os.urandom(_SECRET_LENGTH))
    return await change(catalog, lambda old: replace(old, secret=wrapped))
