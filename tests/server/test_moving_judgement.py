"""When a connection may leave for another process, and when the host takes or gives."""

from __future__ import annotations

import socket
import time

from hypothesis import given
from hypothesis import strategies as st

from core.http.moving import SHOWN, SMALL, Course
from gateway.wiring.moving import BUSY, OVERLOADED, STEP, FromHost, Load, ToHost


class Always:
    """A mover that wants every connection away."""

    def wants(self, leaning: int, moved: bool) -> bool:
        return True

    def move(self, connection: socket.socket) -> bool:
        return True


HEAD = b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
NEXT = b"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n"


@given(chunks=st.lists(st.integers(1, 40), max_size=6), early=st.integers(0, len(NEXT)), start=st.integers(0, 1 << 40))
def test_it_leaves_only_when_nothing_of_the_next_request_was_read(chunks: list[int], early: int, start: int) -> None:
    """However the bytes of a request and what follows it are cut into reads, the first of which has the whole head."""
    course = Course(moved=False)
    assert not course.leads_away(Always(), "PUT", start, 0)  # where the next one ends is not known yet
    data = HEAD + b"hello" + NEXT[:early]
    received = start
    course.begins(received, data[: len(HEAD) + sum(chunks)])
    received += len(data)
    assert course.leads_away(Always(), "PUT", received, 5) is (early == 0)


def test_a_head_that_comes_in_pieces_keeps_it_here() -> None:
    course = Course(moved=False)
    course.leads_away(Always(), "PUT", 0, 0)
    course.begins(0, HEAD[:-2])
    assert not course.leads_away(Always(), "PUT", len(HEAD) + 5, 5)


def test_only_small_writes_lead_to_the_host_and_only_as_many_as_it_takes() -> None:
    handed: list[object] = []

    def hand(connection: socket.socket) -> bool:
        handed.append(connection)
        return True

    mover = ToHost(hand)
    mover.room = 1

    def requests(method: str, size: int, count: int) -> bool:
        course, received, away = Course(moved=False), 0, False
        for _ in range(count):
            course.begins(received, b"\r\n\r\n")
            received += size
            away = course.leads_away(mover, method, received, size - 4)
        return away

    assert not requests("PUT", SMALL, SHOWN)
    assert requests("PUT", SMALL, SHOWN + 1)
    assert requests("DELETE", 400, SHOWN + 1)
    assert not requests("PUT", SMALL + 1, 3 * SHOWN)
    assert not requests("GET", 400, 3 * SHOWN)
    with socket.socket() as one:
        assert mover.move(one)
        assert not mover.move(one)
    assert len(handed) == 1
    assert not requests("PUT", SMALL, 3 * SHOWN)


def test_the_host_takes_while_it_has_time_and_gives_when_it_has_none() -> None:
    mover = FromHost(lambda _: True)
    assert mover.judge(BUSY - 0.01)
    assert not mover.judge(BUSY + 0.01)
    assert not mover.wants(SHOWN, moved=True)
    assert not mover.judge(OVERLOADED + 0.01)
    assert mover.wants(SHOWN, moved=True)
    assert not mover.wants(SHOWN, moved=False)  # its own stay
    with socket.socket() as one:
        for _ in range(STEP):
            assert mover.wants(SHOWN, moved=True)
            assert mover.move(one)
    assert not mover.wants(SHOWN, moved=True)
    assert mover.wants(-SHOWN, moved=True)  # brings something else by now


def test_load_is_this_threads() -> None:
    load = Load()
    began = time.thread_time()
    while time.thread_time() < began + 0.05:
        sum(range(1000))
    assert 0 < load.share() < 1.1
    time.sleep(0.2)
    assert load.share() < 0.2
