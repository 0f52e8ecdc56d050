"""The canonical form of a request, as AWS Signature Version 4 for S3 defines it.

Source: "Signature Calculations for the Authorization Header" and "Authenticating Requests: Using Query Parameters" of
the S3 API reference. S3 differs from other services: the path is encoded once and never normalised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote_to_bytes

_PLAIN_PATH = re.compile(r"[A-Za-z0-9/_.~-]*")
_PLAIN_QUERY = re.compile(r"[A-Za-z0-9_.~&=-]*")
_SPACES = re.compile(r" {2,}")


def canonical_path(raw_path: str) -> str:
    """The path as sent, decoded and encoded once, `/` kept."""
    if _PLAIN_PATH.fullmatch(raw_path):
        return raw_path
    return quote(unquote_to_bytes(raw_path.encode("utf-8", "surrogateescape")), safe="/~")


def canonical_query(raw_query: str, without: str = "") -> str:
    """Members sorted by encoded name, then encoded value; a bare name gets an empty value. `without` is dropped."""
    if not raw_query:
        return ""
    if "&" not in raw_query and _PLAIN_QUERY.fullmatch(raw_query) and not without:
        name, _, value = raw_query.partition("=")
        return f"{name}={value}"
    pairs = []
    for piece in raw_query.split("&"):
        if piece:
            name, _, value = piece.partition("=")
            name = _encode(name)
            if name != without:
                pairs.append((name, _encode(value)))
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs])


def _encode(text: str) -> str:
    if _PLAIN_QUERY.fullmatch(text) and "=" not in text:
        return text
    plain = unquote_to_bytes(text.replace("+", " ").encode("utf-8", "surrogateescape"))
    return quote(plain, safe="~")


def canonical_request(
    method: str,
    path: str,
    query: str,
    names: Iterable[str],
    signed_names: str,
    headers: Mapping[str, str],
    payload: str,
) -> str:
    """The whole canonical request from its canonical parts; `payload` is the value of x-amz-content-sha256.

    One line per signed header: values trimmed, runs of spaces folded. `headers` has repeated ones joined by commas.
    """
    lines = "".join([f"{name}:{headers.get(name, '').strip()}\n" for name in names])
    if "  " in lines:
        lines = _SPACES.sub(" ", lines)
    return f"{method}\n{path}\n{query}\n{lines}\n{signed_names}\n{payload}"


def latin1_reading(request: str) -> str | None:
    """The canonical request of a client that signed header text but sent it as Latin-1 (Python's http.client does);
    None where all bytes were UTF-8."""
    if request.isascii():
        return None
    raw = request.encode("utf-8", "surrogateescape")
    try:
        raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
    return None
