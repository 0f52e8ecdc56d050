"""Logs: JSON lines, no secrets, never blocking. Metrics: what is counted is what is printed."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from core.logs import access, blot, configure, request_id
from core.metrics import LATENCY_BOUNDS, Metrics


@pytest.fixture(autouse=True)
def _restore_loggers() -> Iterator[None]:
    names = ("atoll", "aiohttp", "asyncio", "atoll.access")
    before = [(logging.getLogger(n), *_state(logging.getLogger(n))) for n in names]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def _state(logger: logging.Logger) -> tuple[list[logging.Handler], int, bool]:
    return list(logger.handlers), logger.level, logger.propagate


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_carries_fields_request_id_and_traceback() -> None:
    stream = io.StringIO()
    sink = configure(stream)
    token = request_id.set("R1")
    try:
        logging.getLogger("atoll.room").info("stored %d", 3, extra={"fields": {"bucket": "b"}})
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            logging.getLogger("atoll.room").exception("failed")
    finally:
        request_id.reset(token)
        sink.close()
    first, second = lines(stream)
    assert (first["message"], first["bucket"], first["request_id"], first["level"]) == ("stored 3", "b", "R1", "info")
    assert "RuntimeError: broken" in second["traceback"]


def test_signatures_and_authorization_are_blotted_out() -> None:
    stream = io.StringIO()
    sink = configure(stream)
    url = "/b/k?X-Amz-Credential=AKIA%2F2026&X-Amz-Signature=c0ffee&versionId=7"
    logging.getLogger("atoll.room").info("got %s", url, extra={"fields": {"target": url}})
    logging.getLogger("atoll.room").info("Authorization: AWS4-HMAC-SHA256 Credential=AKIA, Signature=c0ffee")
    sink.close()
    assert "c0ffee" not in stream.getvalue()
    assert "AKIA" not in stream.getvalue()
    assert "versionId=7" in stream.getvalue()
    assert blot("nothing to hide") == "nothing to hide"


def test_a_reader_that_stopped_costs_records_not_time() -> None:
    held = threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            held.wait(10)
            return super().write(text)

    sink = configure(Stuck())
    sink._queue.maxsize = 10
    for number in range(100):
        logging.getLogger("atoll.room").info("line %d", number)
    assert 85 <= sink.dropped <= 90
    held.set()
    sink.close()


@pytest.mark.parametrize("enabled", [True, False])
def test_access_log_is_optional(enabled: bool) -> None:
    stream = io.StringIO()
    sink = configure(stream, access_log=enabled)
    access({"operation": "GetObject", "status": 200})
    sink.close()
    assert [line["operation"] for line in lines(stream)] == ["GetObject"] * enabled


def test_request_metrics_print_counts_sums_and_buckets() -> None:
    metrics = Metrics()
    metrics.requests.observe("PutObject", 200, 0.0007, 100, 0)
    metrics.requests.observe("PutObject", 200, 0.3, 50, 0)
    metrics.requests.observe("PutObject", 503, 1000.0, 1, 9)
    text = metrics.render().decode()
    labels = 'operation="PutObject",status="200"'
    assert f"atoll_request_seconds_count{{{labels}}} 2.0" in text
    assert f"atoll_request_received_bytes_total{{{labels}}} 150.0" in text
    assert f'atoll_request_seconds_bucket{{le="0.001",{labels}}} 1.0' in text
    assert f'atoll_request_seconds_bucket{{le="0.5",{labels}}} 2.0' in text
    last = LATENCY_BOUNDS[-1]
    assert f'atoll_request_seconds_bucket{{le="{last}",operation="PutObject",status="503"}} 0.0' in text
    assert 'atoll_request_seconds_bucket{le="+Inf",operation="PutObject",status="503"} 1.0' in text


def test_sources_are_read_when_asked() -> None:
    metrics = Metrics()
    counts = {"hedges": 0}
    metrics.source("atoll_engine", "Engine events", read=lambda: [({"event": k}, v) for k, v in counts.items()])
    metrics.source("atoll_empty", "Nothing yet", kind="gauge", read=list)
    counts["hedges"] = 7
    assert 'atoll_engine_total{event="hedges"} 7.0' in metrics.render().decode()


def test_figures_of_other_processes_are_added_up() -> None:
    one, other = Metrics(), Metrics()
    one.source("atoll_calls", "Calls", read=lambda: [({"node": "a"}, 2.0), ({"node": "both"}, 3.0)])
    other.source("atoll_calls", "Calls", read=lambda: [({"node": "b"}, 2.0), ({"node": "both"}, 3.0)])
    other.source("atoll_only_there", "Unknown here", read=lambda: [({}, 1.0)])
    one.requests.observe("GetObject", 200, 0.001, 0, 10)
    other.requests.observe("GetObject", 200, 40.0, 0, 10)
    other.requests.observe("PutObject", 200, 0.001, 5, 0)
    text = one.render([*other.figures(), *other.figures()]).decode()
    assert 'atoll_calls_total{node="a"} 2.0' in text
    assert 'atoll_calls_total{node="b"} 4.0' in text
    assert 'atoll_calls_total{node="both"} 9.0' in text
    assert 'atoll_request_seconds_count{operation="GetObject",status="200"} 3.0' in text
    assert 'atoll_request_seconds_bucket{le="0.001",operation="GetObject",status="200"} 1.0' in text
    assert 'atoll_request_seconds_bucket{le="+Inf",operation="GetObject",status="200"} 3.0' in text
    assert 'atoll_request_received_bytes_total{operation="PutObject",status="200"} 10.0' in text
    assert "atoll_only_there" not in text
    assert 'atoll_calls_total{node="b"}' not in one.render().decode()
