"""Who the client is when proxies stand in front: forwarded headers are believed only from trusted addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from core.http.connection import Request
from core.http.peer import Peer

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class TrustedProxies:
    """Resolves the client of a request. `networks` are addresses or CIDR ranges; ValueError for anything else."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: tuple[_Network, ...] = tuple(ipaddress.ip_network(one, strict=False) for one in networks)

    def peer(self, request: Request) -> Peer:
        """The nearest address that is no trusted proxy of ours, and whether that hop came over TLS."""
        connection = request.connection
        if connection.peer is not None:
            return connection.peer
        address = request.remote or ""
        secure = request.secure
        if not self._networks or not self._trusts(address):
            peer = connection.peer = Peer(address, secure)
            return peer
        headers = request.headers
        hops = [hop.strip() for value in headers.getall("X-Forwarded-For", ()) for hop in value.split(",")]
        for hop in reversed(hops):
            # Each proxy appends the address it saw; the first one from the right that is not ours is the client.
            if not _is_address(hop):
                break
            address = hop
            if not self._trusts(hop):
                break
        protocols = [one.strip() for value in headers.getall("X-Forwarded-Proto", ()) for one in value.split(",")]
        if protocols:
            secure = protocols[-1].lower() == "https"
        return Peer(address, secure)

    def _trusts(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped  # how IPv4 clients look on a socket for both
        return any(ip in network for network in self._networks)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
