"""TLS with certificates that are replaced while serving."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from core.errors import ConfigError

log = logging.getLogger("atoll.tls")


class Certificate:
    """A certificate chain and key in files, and the context that serves them.

    `reload` puts new files into the same context, so new handshakes use them and open connections go on. Files that
    don't load leave the old certificate in service.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._stamp = self._read_stamp()
        self.context = self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        certificate, key = self._files
        try:
            context.load_cert_chain(certificate, key, password=_refuse_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigError(f"cannot use the certificate {certificate} with the key {key}: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _read_stamp(self) -> tuple[tuple[int, int, int], ...]:
        found: list[tuple[int, int, int]] = []
        for path in self._files:
            try:
                status = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_mtime_ns, status.st_ino, status.st_size))
        return tuple(found)

    def reload(self) -> bool:
        """Read the files again; False, with a line in the log, when they can't be used."""
        self._stamp = self._read_stamp()
        try:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # tried aside: a bad pair must not break the context
            self._load(self.context)
        except ConfigError as error:
            log.error("certificate not reloaded", extra={"fields": {"error": str(error)}})
            return False
        log.info("certificate reloaded", extra={"fields": {"certificate": str(self._files[0])}})
        return True

    async def watch(self, interval: float) -> None:
        """Reload whenever a file changed; runs until cancelled."""
        while True:
            await asyncio.sleep(interval)
            if self._read_stamp() != self._stamp:
                self.reload()


def _refuse_password() -> str:
    raise ValueError("the key is encrypted; give one without a password")
