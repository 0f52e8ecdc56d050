"""Signed HTTP/1.1 requests as bytes, made ahead of the measurement so that signing costs the client nothing then.

AWS Signature Version 4 with header authentication and `UNSIGNED-PAYLOAD`, the mode that asks the same of every server.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens and the root user's keys."""

    host: str
    port: int
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"


class RequestSigner:
    """Signs requests for one endpoint at the moment the signer was made (valid for 15 minutes)."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        now = datetime.datetime.now(datetime.UTC)
        self._time = now.strftime("%Y%m%dT%H%M%SZ")
        date = self._time[:8]
        self._scope = f"{date}/{endpoint.region}/s3/aws4_request"
        key = b"AWS4" + endpoint.secret_key.encode()
        for part in (date, endpoint.region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._key = key

    def head(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        length: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Request line and headers of a signed request, ending with the blank line. `path` is unescaped."""
        raw_path = quote(path, safe="/-_.~")
        pairs = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in (query or {}).items())
        raw_query = "&".join(f"{name}={value}" for name, value in pairs)
        authority = self.endpoint.authority
        canonical = (
            f"{method}\n{raw_path}\n{raw_query}\nhost:{authority}\nx-amz-content-sha256:UNSIGNED-PAYLOAD\n"
            f"x-amz-date:{self._time}\n\nhost;x-amz-content-sha256;x-amz-date\nUNSIGNED-PAYLOAD"
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{self._time}\n{self._scope}\n{digest}"
        signature = hmac.new(self._key, to_sign.encode(), "sha256").hexdigest()
        lines = [
            f"{method} {raw_path}{'?' if raw_query else ''}{raw_query} HTTP/1.1",
            f"Host: {authority}",
            f"x-amz-date: {self._time}",
            "x-amz-content-sha256: UNSIGNED-PAYLOAD",
            f"Authorization: AWS4-HMAC-SHA256 Credential={self.endpoint.access_key}/{self._scope}, "
            f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}",
        ]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        lines.extend(f"{name}: {value}" for name, value in (headers or {}).items())
        return ("\r\n".join(lines) + "\r\n\r\n").encode()
