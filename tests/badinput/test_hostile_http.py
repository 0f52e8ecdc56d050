"""HTTP as attackers, proxies and broken clients write it: nothing is smuggled, no connection goes out of step."""

from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.badinput.wire import Wire, hear

Late = list[tuple[str, str]]

#: Framings that two parsers could read in two ways; a request hidden behind one must never be answered.
AMBIGUOUS: dict[str, tuple[Late, bytes]] = {
    "length and chunked": ([("Content-Length", "5"), ("Transfer-Encoding", "chunked")], b"0\r\n\r\n"),
    "chunked and length": ([("Transfer-Encoding", "chunked"), ("Content-Length", "5")], b"0\r\n\r\n"),
    "two lengths": ([("Content-Length", "5"), ("Content-Length", "6")], b"hello!"),
    "one length twice": ([("Content-Length", "5"), ("Content-Length", "5")], b"hello"),
    "list of lengths": ([("Content-Length", "5, 5")], b"hello"),
    "length with a sign": ([("Content-Length", "+5")], b"hello"),
    "negative length": ([("Content-Length", "-5")], b"hello"),
    "length in hex": ([("Content-Length", "0x5")], b"hello"),
    "length with underscore": ([("Content-Length", "0_5")], b"hello"),
    "length of 30 digits": ([("Content-Length", "9" * 30)], b"hello"),
    "no length": ([("Content-Length", "")], b"hello"),
    "chunked twice": ([("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")], b"0\r\n\r\n"),
    "chunked not last": ([("Transfer-Encoding", "chunked, identity")], b"0\r\n\r\n"),
    "identity": ([("Transfer-Encoding", "identity")], b"hello"),
    "nearly chunked": ([("Transfer-Encoding", "xchunked")], b"0\r\n\r\n"),
    "space before the colon": ([("Transfer-Encoding ", "chunked")], b"0\r\n\r\n"),
    "control character": ([("Transfer-Encoding", "\x0bchunked")], b"0\r\n\r\n"),
    "folded header": ([("X-Other", "a\r\n b"), ("Content-Length", "5")], b"hello"),
    "size that is none": ([("Transfer-Encoding", "chunked")], b"zz\r\nhello\r\n0\r\n\r\n"),
    "negative size": ([("Transfer-Encoding", "chunked")], b"-5\r\nhello\r\n0\r\n\r\n"),
    "endless size": ([("Transfer-Encoding", "chunked")], b"f" * 40 + b"\r\nhello\r\n0\r\n\r\n"),
    "bare line feeds": ([("Transfer-Encoding", "chunked")], b"5\nhello\n0\n\n"),
    "endless trailer": ([("Transfer-Encoding", "chunked")], b"0\r\nX-A: " + b"b" * 100_000 + b"\r\n\r\n"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_ambiguous_framing_is_refused_and_ends_the_connection(wire: Wire, client: Any, name: str) -> None:
    late, body = AMBIGUOUS[name]
    hidden = wire.head("PUT", "/bucket/smuggled", late=[("Content-Length", "0")])
    heard = wire.say(wire.head("PUT", "/bucket/framed", late=late) + body + hidden, answers=2)
    assert heard.statuses == [400]
    assert heard.closed
    for key in ("framed", "smuggled"):
        with pytest.raises(ClientError, match="NoSuchKey"):
            client.get_object(Bucket="bucket", Key=key)


def test_a_transfer_coding_beside_chunked_is_not_stored_as_it_came(wire: Wire, client: Any) -> None:
    late = [("Transfer-Encoding", "gzip, chunked")]
    heard = wire.say(wire.head("PUT", "/bucket/coded", late=late) + b"5\r\nhello\r\n0\r\n\r\n")
    assert (heard.status, heard.code) == (501, "NotImplemented")
    with pytest.raises(ClientError, match="NoSuchKey"):
        client.get_object(Bucket="bucket", Key="coded")


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "tcp"])
def test_an_upgrade_is_not_taken_and_what_follows_is_not_lost(wire: Wire, client: Any, protocol: str) -> None:
    late = [("Connection", "Upgrade"), ("Upgrade", protocol), ("Content-Length", "5")]
    following = wire.head("GET", "/bucket/there")
    heard = wire.say(wire.head("PUT", f"/bucket/{protocol}", late=late) + b"hello" + following, answers=2)
    assert heard.statuses[0] == 200
    # the next request is answered, or the client is told that it was not
    assert heard.statuses == [200, 200] or heard.closed
    assert client.get_object(Bucket="bucket", Key=protocol)["Body"].read() == b"hello"


def test_pipelined_requests_are_answered_in_their_order(wire: Wire) -> None:
    one = wire.head("GET", "/bucket/there")
    heard = wire.say(one + wire.head("GET", "/bucket/absent") + wire.head("GET", "/bucket/there") + one, answers=4)
    assert heard.statuses == [200, 404, 200, 200]
    assert heard.data.count(b"\r\n\r\nhello") == 3


def test_bodies_where_none_is_expected_do_not_shift_the_next_request(wire: Wire) -> None:
    following = wire.head("GET", "/bucket/there")
    hidden = wire.head("DELETE", "/bucket/there")
    for method, status in (("GET", 200), ("DELETE", 204)):
        for late, body in (
            ([("Content-Length", str(len(hidden)))], hidden),
            ([("Transfer-Encoding", "chunked")], b"%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden)),
        ):
            target = "/bucket/there" if method == "GET" else "/bucket/absent"
            heard = wire.say(wire.head(method, target, late=late) + body + following, answers=2)
            assert heard.statuses == [status, 200], (method, late)
    with wire.connect() as connection:
        connection.sendall(wire.head("HEAD", "/bucket/there", late=[("Content-Length", str(len(hidden)))]) + hidden)
        assert hear(connection, head_only=True).statuses == [200]
        connection.sendall(following)
        assert hear(connection).statuses == [200]


@pytest.mark.parametrize("size", [100, 100_000, 3_000_000])
def test_after_an_early_refusal_the_next_request_is_understood_or_the_connection_ends(wire: Wire, size: int) -> None:
    refused = wire.head("PUT", "/bucket/nobodys", late=[("Content-Length", str(size))], who=None)
    following = wire.head("GET", "/bucket/there")
    heard = wire.say(refused + b"x" * size + following, answers=2)
    assert heard.statuses == ([403, 200] if size <= 100_000 else [403])
    assert heard.closed == (size > 100_000)


def test_a_refused_client_that_kept_its_body_back_may_not_be_misread(wire: Wire) -> None:
    for target, who_status in (("/bucket/nobodys", 403), ("/absent-bucket/k", 404)):
        late = [("Expect", "100-continue"), ("Content-Length", "5")]
        with wire.connect() as connection:
            connection.sendall(wire.head("PUT", target, late=late, who=None))
            heard = hear(connection)
            assert heard.statuses == [who_status]
            assert heard.closed


def test_a_declared_length_of_5_gib_costs_nothing_until_it_comes(wire: Wire) -> None:
    started = time.monotonic()
    heard = wire.say(wire.head("PUT", "/bucket/large", late=[("Content-Length", str(5 << 30))]))
    assert (heard.status, heard.code) == (400, "RequestTimeout")
    assert heard.closed
    assert time.monotonic() - started < 8
    heard = wire.say(wire.head("PUT", "/bucket/large", late=[("Content-Length", str((5 << 30) + 1))]))
    assert (heard.status, heard.code) == (400, "EntityTooLarge")


def test_http_1_0_is_answered_and_never_told_to_continue(wire: Wire) -> None:
    heard = wire.say(wire.head("GET", "/bucket/there", version="HTTP/1.0"))
    assert (heard.status, heard.body) == (200, b"hello")
    assert heard.closed
    late = [("Content-Length", "5"), ("Expect", "100-continue")]
    with wire.connect() as connection:
        connection.sendall(wire.head("PUT", "/bucket/old", late=late, version="HTTP/1.0"))
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        connection.settimeout(10)
        connection.sendall(b"hello")
        assert hear(connection).statuses == [200]


@pytest.mark.parametrize(
    "line",
    [
        "GET bucket HTTP/1.1",
        "GET ?list-type=2 HTTP/1.1",
        "GET * HTTP/1.1",
        "GET /bucket/a b HTTP/1.1",
        "get /bucket/there HTTP/1.1",
        "FETCH /bucket/there HTTP/1.1",
        "GET /bucket/there HTTP/1.9",
        "PRI * HTTP/2.0",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "GET /" + "a" * 40_000 + " HTTP/1.1",
    ],
)
def test_what_is_no_request_is_400_and_the_end(wire: Wire, line: str) -> None:
    heard = wire.say(line.encode("latin-1") + b"\r\nHost: h\r\n\r\n")
    assert heard.status == 400
    assert heard.closed
    assert b"aiohttp" not in heard.data.lower()


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        b"Host: a\r\nHost: b\r\n",
        b"Host: h\r\ngarbage\r\n",
        b"Host: h\r\nX-A: a\x00b\r\n",
        b"Host: h\r\nX-A: " + b"a" * 100_000 + b"\r\n",
        b"Host: h\r\n" + b"X-A: a\r\n" * 3000,
    ],
)
def test_headers_that_are_none_too_large_or_too_many(wire: Wire, headers: bytes) -> None:
    heard = wire.say(b"GET /bucket/there HTTP/1.1\r\n" + headers + b"\r\n")
    assert heard.status == 400
    assert heard.closed


def test_targets_in_absolute_form_go_by_their_path(wire: Wire) -> None:
    head = wire.head("GET", "/bucket/there").replace(b"GET /", b"GET http://elsewhere.example/", 1)
    heard = wire.say(head)
    assert (heard.status, heard.body) == (200, b"hello")
    # our own pages are not reached around what watches over paths
    assert wire.say(b"GET http://h/-/metrics HTTP/1.1\r\nHost: h\r\n\r\n").status == 404


@pytest.mark.parametrize("host", ["", "evil.example", "127.0.0.1.localhost", "..localhost", ".localhost", "a" * 300])
def test_odd_hosts_never_reach_another_bucket(wire: Wire, host: str) -> None:
    heard = wire.say(f"GET /bucket/there HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert heard.status in (400, 403, 404)
    assert b"hello" not in heard.data


def test_the_connection_of_a_slow_body_ends_and_leaves_no_traceback(wire: Wire, server: Any) -> None:
    before = len(server.output)
    heard = wire.say(wire.head("PUT", "/bucket/slow", late=[("Content-Length", "100000")]) + b"x")
    assert (heard.status, heard.code) == (400, "RequestTimeout")
    assert heard.closed
    time.sleep(0.2)
    assert [line for line in server.output[before:] if "Traceback" in line] == []
