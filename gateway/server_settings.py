"""What can be set of the HTTP server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.config import Duration, Size
from core.http.limits import Timeouts


@dataclass(frozen=True)
class HttpSettings:
    """Timeouts and sizes of the HTTP server."""

    header_timeout: Duration = 30.0
    idle_timeout: Duration = 75.0
    body_timeout: Duration = 30.0
    body_rate: Size = 512  # bytes a second that a body must keep over each body_timeout
    drain_timeout: Duration = 30.0
    drain_delay: Duration = 0.0  # between "not ready" and "no new connections", for load balancers
    max_line: Size = 16 << 10
    max_header: Size = 16 << 10
    max_headers: int = 200

    def timeouts(self) -> Timeouts:
        return Timeouts(self.header_timeout, self.idle_timeout, self.body_timeout, self.body_rate)


@dataclass(frozen=True)
class LimitSettings:
    """What the server takes at once; 0 is no limit. Beyond a limit the answer is 503 SlowDown."""

    max_connections: int = 4096
    max_requests: int = 1024
    max_key_requests: int = 512
    connection_rate: float = 0.0  # requests a second on one connection


@dataclass(frozen=True)
class TlsSettings:
    """PEM files; both or neither."""

    certificate: Path | None = None
    key: Path | None = None
    reload_interval: Duration = 10.0

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
