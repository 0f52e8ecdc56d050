"""Where the database is: the `postgresql://` address of a setting, and how to name it without its password."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

SCHEMES: Final = ("postgresql", "postgres")
_SECRET_OPTIONS: Final = frozenset({"password", "sslpassword"})
_HIDDEN: Final = "***"


def is_address(text: str) -> bool:
    """Whether `text` is an address of this engine."""
    return text.partition("://")[0] in SCHEMES


def redacted(url: str) -> str:
    """The address for logs and errors: every secret in it is replaced."""
    try:
        parts = urlsplit(url)
        login, at, host = parts.netloc.rpartition("@")
        user, colon, _ = login.partition(":")
        options = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return "postgresql://" + _HIDDEN
    shown = urlencode([(name, _HIDDEN if name in _SECRET_OPTIONS else value) for name, value in options], safe="*/")
    netloc = (user + (colon and colon + _HIDDEN)) + at + host
    return f"{parts.scheme}://{netloc}{parts.path}{shown and '?' + shown}"
