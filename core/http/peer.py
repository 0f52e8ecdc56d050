"""The client of a request."""

from __future__ import annotations

import msgspec


class Peer(msgspec.Struct, frozen=True, gc=False):
    """The client as far as it can be known."""

    ip: str
    secure: bool  # the client's own connection is encrypted
