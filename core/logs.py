"""Structured logs: one JSON object a line on standard error, written by a thread so that a slow reader of the pipe
never holds up a request.

Rooms use ordinary loggers below `atoll`; extra fields travel as `extra={"fields": {...}}`. The queue is bounded: when
its reader can't keep up, records are dropped and counted. Nothing secret belongs in a log; signatures and credentials
in URLs are blotted out here as a last line of defence.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from contextvars import ContextVar
from typing import Any, TextIO

import msgspec

#: The request that the running task works for; "" outside of one.
request_id: ContextVar[str] = ContextVar("request_id", default="")

ROOT = "atoll"
_CAPACITY = 10_000
_SECRETS = re.compile(
    r"((?:X-Amz-(?:Signature|Security-Token|Credential)|AWSAccessKeyId|Signature)=)[^&\s\"']+", re.IGNORECASE
)
_AUTHORIZATION = re.compile(r"(authorization['\"]?\s*[:=]\s*)[^\n]*", re.IGNORECASE)
_encode = msgspec.json.Encoder(enc_hook=str).encode
_access = logging.getLogger("atoll.access")


def blot(text: str) -> str:
    """`text` without signatures, credentials and authorization values."""
    if "=" not in text and "uthorization" not in text:
        return text
    return _AUTHORIZATION.sub(r"\1…", _SECRETS.sub(r"\1…", text))


def access(fields: dict[str, Any]) -> None:
    """One line of the access log; costs a comparison when it is off."""
    if _access.isEnabledFor(logging.INFO):
        _access.info("", extra={"fields": fields})


class LogSink(logging.Handler):
    """Takes records on any thread without blocking; a thread of its own writes them."""

    def __init__(self, stream: TextIO, *, plain: bool = False, capacity: int = _CAPACITY) -> None:
        super().__init__()
        self.dropped = 0
        self._stream = stream
        self._plain = plain
        self._queue: queue.Queue[logging.LogRecord | None] = queue.Queue(capacity)
        self._thread = threading.Thread(target=self._run, name="atoll-logs", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        record.request_id = request_id.get()
        # The message and traceback are rendered now: their arguments may change after this call returns.
        record.message = record.getMessage()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        record.args, record.exc_info = None, None
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what is queued (bounded by two seconds) and end the thread."""
        try:
            self._queue.put(None, timeout=2)
            self._thread.join(timeout=2)
        except queue.Full:
            self.dropped += self._queue.qsize()
        super().close()

    def _run(self) -> None:
        while (record := self._queue.get()) is not None:
            try:
                self._stream.write(self._line(record))
                if self._queue.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                self.dropped += 1

    def _line(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        if self._plain:
            extra = "".join(f" {name}={value}" for name, value in fields.items())
            text = f"{stamp} {record.levelname.lower()} {record.name}: {record.message}{extra}"
            return blot(text + (f"\n{record.exc_text}" if record.exc_text else "")) + "\n"
        line: dict[str, Any] = {"time": stamp, "level": record.levelname.lower(), "logger": record.name}
        if record.message:
            line["message"] = blot(record.message)
        if identity := getattr(record, "request_id", ""):
            line["request_id"] = identity
        for name, value in fields.items():
            line[name] = blot(value) if isinstance(value, str) else value
        if record.exc_text:
            line["traceback"] = blot(record.exc_text)
        return _encode(line).decode() + "\n"


def configure(stream: TextIO, *, level: str = "info", access_log: bool = False, plain: bool = False) -> LogSink:
    """Send the program's loggers to `stream`. Close the returned sink at the end of the program."""
    sink = LogSink(stream, plain=plain)
    root = logging.getLogger(ROOT)
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(sink)
    root.setLevel(level.upper())
    root.propagate = False
    _access.setLevel(logging.INFO if access_log else logging.CRITICAL)
    for library in ("aiohttp", "asyncio"):
        logger = logging.getLogger(library)
        logger.handlers = [sink]
        logger.setLevel(logging.WARNING)
        logger.propagate = False
    return sink
