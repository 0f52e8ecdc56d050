"""Whom a gateway takes a client for behind a balancer: its own address and its own way in, whatever it says of them."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

import pytest

from tests.badinput.wire import Wire
from tests.deploy.balancers import Balancer
from tests.deploy.conftest import Gateways, wait_until
from tests.deploy.door import Door

pytestmark = pytest.mark.xdist_group("balancers")

#: Not the balancer's address, which is the only one that the gateways trust.
CLIENT = "127.0.0.2"

LIES = {
    "nothing": [],
    "plain": [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Proto", "https")],
    "the other way": [("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Proto", "http")],
    "repeated": [("X-Forwarded-For", "6.6.6.6"), ("x-forwarded-for", "7.7.7.7"), ("x-forwarded-proto", "https,https")],
    "underscores": [("X_Forwarded_For", "6.6.6.6"), ("X_Forwarded_Proto", "https")],
    "other headers": [("Forwarded", "for=6.6.6.6;proto=https"), ("X-Real-IP", "6.6.6.6"), ("X-Forwarded-Ssl", "on")],
    "hop by hop": [("Connection", "X-Forwarded-For, X-Forwarded-Proto"), ("X-Forwarded-Proto", "https")],
    "empty": [("X-Forwarded-For", ""), ("X-Forwarded-Proto", "")],
}


@pytest.fixture(scope="module")
def bucket(gateways: Gateways) -> str:
    gateways.make("identity")
    return "identity"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("lie", LIES)
def test_a_client_is_taken_for_what_the_balancer_saw(
    balancer: Balancer, gateways: Gateways, bucket: str, certificates: Path, scheme: str, lie: str
) -> None:
    target = f"/{bucket}/{uuid.uuid4().hex}"
    door = Door(balancer, scheme, certificates, source=CLIENT)
    assert door.say(door.head("GET", target, None, LIES[lie])).status == 404
    assert wait_until(lambda: len(gateways.logged(target)) == 1)
    (line,) = gateways.logged(target)
    assert (line["remote"], line["secure"]) == (CLIENT, scheme == "https")


@pytest.mark.parametrize("lie", LIES)
def test_who_passes_the_balancer_by_is_not_believed_either(gateways: Gateways, bucket: str, lie: str) -> None:
    target = f"/{bucket}/{uuid.uuid4().hex}"

    class Beside(Wire):
        def connect(self, timeout: float = 10.0) -> socket.socket:
            return socket.create_connection((self.host, self.port), timeout, source_address=(CLIENT, 0))

    wire = Beside(gateways.each[0].port)
    assert wire.say(wire.head("GET", target, None, LIES[lie])).status == 404
    assert wait_until(lambda: len(gateways.logged(target)) == 1)
    (line,) = gateways.logged(target)
    assert (line["remote"], line["secure"]) == (CLIENT, False)


def test_a_client_that_speaks_the_proxy_protocol_is_refused(balancer: Balancer, bucket: str) -> None:
    wire = Wire(balancer.http)
    lie = b"PROXY TCP4 6.6.6.6 127.0.0.1 1000 443\r\n"
    heard = wire.say(lie + wire.head("GET", f"/{bucket}"))
    assert heard.statuses in ([400], [])
    assert heard.closed
