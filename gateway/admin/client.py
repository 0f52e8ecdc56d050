"""The command line's end of the admin socket: blocking calls, one a connection."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from core.errors import AtollError
from gateway.admin import endpoint

_CONNECT_TIMEOUT = 5.0
_ANSWER_TIMEOUT = 600.0  # between two lines of a stream, or to a plain answer


class NotRunning(AtollError):
    """No server answers for this data folder."""


class Refused(AtollError):
    """The server said no; the text is its reason."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, folder: Path) -> None:
        super().__init__("localhost")
        self._folder = folder

    def connect(self) -> None:
        self.sock = endpoint.connect(self._folder, _CONNECT_TIMEOUT)
        self.sock.settimeout(_ANSWER_TIMEOUT)


class AdminClient:
    """Talks to the server whose data folder is `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def call(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """One answer, decoded. Raises NotRunning, Refused."""
        connection, answer = self._open(method, path, body, query)
        try:
            return msgspec.json.decode(answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise NotRunning(f"the server went away: {error}") from error
        finally:
            connection.close()

    def stream(self, method: str, path: str, body: Any = None, **query: str) -> Iterator[dict[str, Any]]:
        """The lines of a long operation as they come; closing the iterator ends the operation.

        Raises NotRunning, and Refused when the operation fails on its way.
        """
        connection, answer = self._open(method, path, body, query)
        try:
            while line := answer.readline():
                fields = msgspec.json.decode(line)
                if "error" in fields:
                    raise Refused(fields["error"])
                yield fields
                if fields.get("end"):
                    return
            raise NotRunning("the server went away before the end")
        except (OSError, http.client.HTTPException) as error:
            raise NotRunning(f"the server went away: {error}") from error
        finally:
            connection.close()

    def _open(
        self, method: str, path: str, body: Any, query: dict[str, str]
    ) -> tuple[_Connection, http.client.HTTPResponse]:
        connection = _Connection(self._folder)
        target = quote(path) + (f"?{urlencode(query)}" if query else "")
        try:
            connection.request(method, target, None if body is None else msgspec.json.encode(body))
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NotRunning(
                f"no server answers at {self._folder / endpoint.NAME}; is one running with this data folder?"
            ) from error
        if answer.status >= 400:
            try:
                fields = msgspec.json.decode(answer.read())
            finally:
                connection.close()
            raise Refused(str(fields["error"]))
        return connection, answer
