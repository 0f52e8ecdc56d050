"""What gateways tell each other with their heartbeats: who they are, and how they find the nodes."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import msgspec

from core.errors import AtollError

if TYPE_CHECKING:
    from gateway.wiring.build import Gateway
    from gateway.wiring.rooms import Rooms


class SeenNode(msgspec.Struct):
    """A node as one gateway finds it; `free` is in bytes, as it was last asked."""

    name: str
    up: bool
    error: str = ""
    free: int = 0


class Presence(msgspec.Struct):
    """One gateway. Other versions may tell more, or less."""

    endpoint: str = ""
    host: str = ""
    pid: int = 0
    version: str = ""
    root_key: str = ""
    nodes: list[SeenNode] = []


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Presence).decode


def presence(gateway: Rooms) -> bytes:
    """This gateway's own, to be told."""
    placer = gateway.placer
    return _encode(
        Presence(
            gateway.endpoint,
            socket.gethostname(),
            os.getpid(),
            gateway.version,
            gateway.deployment.keyring.root_key_id,
            [
                SeenNode(node.name, placer.is_up(node.id), placer.last_error(node.id), placer.free(node.id))
                for node in placer.nodes()
            ],
        )
    )


def read_presence(note: bytes) -> Presence:
    """What a gateway told. Raises AtollError."""
    try:
        return _decode(note or b"{}")
    except msgspec.MsgspecError as error:
        raise AtollError(f"what a gateway tells of itself is not understood: {error}") from error


async def gateways(gateway: Gateway) -> list[dict[str, Any]]:
    """All living gateways as they told last, for `status`. On a catalog in the data folder that is this one: other
    epochs are those of its own processes."""
    found = []
    for epoch, note in (await gateway.epochs.notes()).items():
        if gateway.catalog.local and epoch != gateway.epochs.epoch:
            continue
        told = msgspec.to_builtins(read_presence(note))
        found.append({"epoch": epoch, "self": epoch == gateway.epochs.epoch, **told})
    return found
