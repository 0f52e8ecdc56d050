"""Text in XML documents: what is escaped and how keys are URL-encoded, one by one and a column at a time.

A page of a listing prints a thousand keys that nearly never need either, so a column is looked at as a whole first.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from urllib.parse import quote

from gateway.s3.values import iso8601

_SPECIAL = re.compile('[&<>"\r\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]')
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REPLACEMENTS = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
_NEVER_QUOTED = "/-_.~*"  # beside ASCII letters and digits, by `encoding-type=url`
# ASCII that is printed as it is
_PLAIN = bytes(code for code in range(128) if not _SPECIAL.match(chr(code)))
_PLAIN_IN_URLS = (string.ascii_letters + string.digits + _NEVER_QUOTED).encode()


def _replace(match: re.Match[str]) -> str:
    character = match.group()
    return _REPLACEMENTS.get(character) or f"&#x{ord(character):x};"


def escape(text: str) -> str:
    """Text as element content. Characters that XML can't carry become numeric references, as S3 prints them."""
    return _SPECIAL.sub(_replace, text) if _SPECIAL.search(text) else text


def shown(text: str) -> str:
    """As `escape`, but what XML can't carry becomes U+FFFD, so that the document can be read whatever it quotes."""
    return escape(_NOT_XML.sub("\ufffd", text))


def url_encode(text: str) -> str:
    """A key as `encoding-type=url` prints it: UTF-8, `/` stays, space is %20, plus is %2B."""
    return quote(text, safe=_NEVER_QUOTED)


def _consists_of(plain: bytes, column: Sequence[str]) -> bool:
    joined = "".join(column)
    # ten times as fast as a regular expression
    return joined.isascii() and not joined.encode().translate(None, plain)


def escape_all(column: Sequence[str]) -> Sequence[str]:
    """`escape` of every text."""
    return column if _consists_of(_PLAIN, column) else [escape(text) for text in column]


def url_encode_all(column: Sequence[str]) -> Sequence[str]:
    """`url_encode` of every text."""
    return column if _consists_of(_PLAIN_IN_URLS, column) else [url_encode(text) for text in column]


def iso8601_all(column: Sequence[int]) -> Sequence[str]:
    """`iso8601` of every time in microseconds since the epoch. Much of a page was often written within seconds."""
    seconds = [moment // 1_000_000 for moment in column]
    known = {second: iso8601(second * 1_000_000) for second in set(seconds)}
    return [known[second] for second in seconds]
