"""Raw requests through a balancer: over TLS too, and for any host."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from tests.badinput.wire import Wire
from tests.deploy.balancers import Balancer


class Door(Wire):
    """Speaks to a balancer as `host` (in the signed Host header), by `http` or `https`."""

    def __init__(
        self, balancer: Balancer, scheme: str, certificates: Path, *, host: str = "127.0.0.1", source: str = "127.0.0.1"
    ) -> None:
        """`source` is the address of loopback that we come from."""
        super().__init__(balancer.https if scheme == "https" else balancer.http)
        self.host, self._source = host, source
        self._tls = ssl.create_default_context(cafile=str(certificates / "ca.pem")) if scheme == "https" else None

    def connect(self, timeout: float = 10.0) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout, source_address=(self._source, 0))
        if self._tls is None:
            return connection
        return self._tls.wrap_socket(connection, server_hostname=self.host)
