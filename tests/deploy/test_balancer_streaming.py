"""Bodies pass a balancer as they come, in both directions: nothing waits for the end of 5 GiB, nor lies on its disk."""

from __future__ import annotations

import hashlib
import random
import re
import socket
import time
import urllib.request

import pytest

from tests.badinput.wire import Wire, hear
from tests.deploy.balancers import Balancer
from tests.deploy.conftest import Gateways, wait_until

pytestmark = pytest.mark.xdist_group("balancers")

MIB = 1 << 20
SIZE = 64 * MIB
PUT_BYTES = r'atoll_backend_bytes_total\{[^}]*operation="put"[^}]*\}'
BLOCK = random.Random(5).randbytes(MIB)


@pytest.fixture(scope="module")
def bucket(gateways: Gateways) -> str:
    gateways.make("streaming", {"large": BLOCK * 64})
    return "streaming"


def total(gateways: Gateways, name: str) -> float:
    """The sum of a metric's samples on both gateways."""
    found = 0.0
    for gateway in gateways.each:
        with urllib.request.urlopen(f"{gateway.url}/-/metrics") as answer:
            text = answer.read().decode()
        found += sum(float(one) for one in re.findall(rf"^{name} (\S+)$", text, re.MULTILINE))
    return found


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_an_upload_reaches_the_nodes_while_it_is_sent(
    balancer: Balancer, gateways: Gateways, bucket: str, chunked: bool
) -> None:
    before = total(gateways, PUT_BYTES)
    wire = Wire(balancer.http)
    late = [("Transfer-Encoding", "chunked")] if chunked else [("Content-Length", str(SIZE))]
    piece = b"%x\r\n%s\r\n" % (MIB, BLOCK) if chunked else BLOCK
    with wire.connect(30) as connection:
        connection.sendall(wire.head("PUT", f"/{bucket}/upload", None, late))
        for _ in range(32):
            connection.sendall(piece)
        # Half of it is on its way, of which kernel buffers and the last stripe hold some.
        assert wait_until(lambda: total(gateways, PUT_BYTES) - before > 16 * MIB, 15)
        assert balancer.temporary_bytes() < MIB
        for _ in range(32):
            connection.sendall(piece)
        if chunked:
            connection.sendall(b"0\r\n\r\n")
        heard = hear(connection)
    assert heard.status == 200
    etag = hashlib.md5(BLOCK * 64).hexdigest()
    assert etag.encode() in heard.data


def test_a_download_waits_for_its_reader(balancer: Balancer, gateways: Gateways, bucket: str) -> None:
    wire = Wire(balancer.http)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 << 10)
    with connection:
        connection.settimeout(30)
        connection.connect((wire.host, wire.port))
        connection.sendall(wire.head("GET", f"/{bucket}/large"))
        data = connection.recv(64 << 10)
        time.sleep(2)
        # It is still being answered: nobody in between has taken it all.
        assert total(gateways, "atoll_requests_under_way") == 1
        assert balancer.temporary_bytes() < MIB
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        digest, left = hashlib.md5(body), SIZE - len(body)
        while left:
            data = connection.recv(1 << 20)
            assert data
            digest.update(data)
            left -= len(data)
    assert digest.digest() == hashlib.md5(BLOCK * 64).digest()


def test_one_client_connection_carries_many_requests(balancer: Balancer, bucket: str) -> None:
    wire = Wire(balancer.http)
    with wire.connect() as connection:
        for number in range(20):
            late = [("Content-Length", "3")]
            connection.sendall(wire.head("PUT", f"/{bucket}/many/{number}", None, late) + b"abc")
            heard = hear(connection)
            assert (heard.status, heard.closed) == (200, False)


def test_connections_to_the_gateways_outlive_their_clients(balancer: Balancer, bucket: str) -> None:
    wire = Wire(balancer.http)

    def ask(times: int) -> int:
        for number in range(times):
            heard = wire.say(wire.head("GET", f"/{bucket}/none/{number}", None, [("Connection", "close")]))
            assert heard.status == 404
        return balancer.connections_to_gateways()

    first = ask(4)
    assert first >= 1
    assert ask(20) <= first + 4
