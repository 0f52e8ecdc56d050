"""TLS: served, reloaded when the files change, the old certificate kept when the new one is bad."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from cryptography import x509

from core.errors import ConfigError
from core.http.connection import Request
from core.http.peer import Peer
from core.http.proxies import TrustedProxies
from core.http.tls import Certificate
from gateway.server_settings import TlsSettings
from tests.server.server_support import running


def write(folder: Path, authority: trustme.CA) -> tuple[TlsSettings, int]:
    """A fresh certificate in `folder`; the settings that name it, and its serial number."""
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    serial = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).serial_number
    return TlsSettings(folder / "cert.pem", folder / "key.pem", reload_interval=0.05), serial


async def served_serial(port: int, authority: trustme.CA) -> int:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    _reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="127.0.0.1")
    encoded = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return x509.load_der_x509_certificate(encoded).serial_number


async def test_certificate_is_replaced_while_serving(tmp_path: Path) -> None:
    authority = trustme.CA()
    settings, first = write(tmp_path, authority)
    async with running(tls=settings) as one:
        assert await served_serial(one.port, authority) == first
        _, second = write(tmp_path, authority)
        for _ in range(60):
            if await served_serial(one.port, authority) == second:
                break
            await asyncio.sleep(0.05)
        assert await served_serial(one.port, authority) == second
        (tmp_path / "key.pem").write_text("no key")
        one.server.reload_certificate()
        assert await served_serial(one.port, authority) == second


def test_bad_files_refuse_to_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot use the certificate"):
        Certificate(tmp_path / "none.pem", tmp_path / "none.key")


@pytest.mark.parametrize(
    ("trusted", "headers", "expected"),
    [
        ((), {"X-Forwarded-For": "9.9.9.9", "X-Forwarded-Proto": "https"}, Peer("127.0.0.1", False)),
        (("10.0.0.0/8",), {"X-Forwarded-For": "9.9.9.9"}, Peer("127.0.0.1", False)),
        (("127.0.0.1",), {"X-Forwarded-For": "9.9.9.9", "X-Forwarded-Proto": "https"}, Peer("9.9.9.9", True)),
        (("127.0.0.1", "10.0.0.0/8"), {"X-Forwarded-For": "6.6.6.6, 9.9.9.9, 10.1.1.1"}, Peer("9.9.9.9", False)),
        (("127.0.0.1",), {"X-Forwarded-For": "not an address"}, Peer("127.0.0.1", False)),
        (("127.0.0.1",), {}, Peer("127.0.0.1", False)),
        (("127.0.0.1", "10.0.0.0/8"), {"X-Forwarded-For": "9.9.9.9, ::ffff:10.1.1.1"}, Peer("9.9.9.9", False)),
    ],
)
async def test_forwarded_headers_count_only_from_trusted_proxies(
    trusted: tuple[str, ...], headers: dict[str, str], expected: Peer
) -> None:
    seen: list[Peer] = []
    proxies = TrustedProxies(trusted)

    async def handler(request: Request) -> web.StreamResponse:
        seen.append(proxies.peer(request))
        return web.Response()

    async with running(handler) as one:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        await one.exchange(f"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n".encode())
    assert seen == [expected]
