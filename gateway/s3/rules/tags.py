"""Object tags: the `x-amz-tagging` header, the Tagging document, and S3's limits on both."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from gateway.s3.errors import S3Error

Tags = tuple[tuple[str, str], ...]

MAX_TAGS = 10
MAX_TAG_KEY = 128
MAX_TAG_VALUE = 256

_PUNCTUATION = frozenset("_.:/=+-@")
#: The header can't be longer than ten tags of the longest keys and values, every byte percent-encoded.
_MAX_HEADER = MAX_TAGS * (MAX_TAG_KEY + MAX_TAG_VALUE) * 12


def _is_tag_text(text: str) -> bool:
    return all(char in _PUNCTUATION or unicodedata.category(char)[0] in "LNZ" for char in text)


def check_tags(tags: Sequence[tuple[str, str]], most: int = MAX_TAGS) -> Tags:
    """The tags, by key. Raises S3Error InvalidTag for too many, too long, doubled or forbidden ones."""
    if len(tags) > most:
        raise S3Error("InvalidTag", f"Tags cannot be more than {most}")
    seen: set[str] = set()
    for key, value in tags:
        if not 1 <= len(key) <= MAX_TAG_KEY or not _is_tag_text(key) or key.startswith("aws:"):
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid", fields={"TagKey": key})
        if len(value) > MAX_TAG_VALUE or not _is_tag_text(value):
            raise S3Error("InvalidTag", "The TagValue you have provided is invalid", fields={"TagValue": value})
        if key in seen:
            raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key", fields={"TagKey": key})
        seen.add(key)
    return tuple(sorted(tags))


def tags_from_header(header: str | None) -> Tags:
    """The tags of `x-amz-tagging` (a URL query). Raises S3Error InvalidArgument, InvalidTag."""
    if not header:
        return ()
    if len(header) > _MAX_HEADER:
        raise S3Error("InvalidTag", f"Tags cannot be more than {MAX_TAGS}")
    try:
        pairs = parse_qsl(header, keep_blank_values=True, errors="strict", max_num_fields=10 * MAX_TAGS)
    except ValueError:
        raise S3Error(
            "InvalidArgument",
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag "
            "name duplicates.",
            fields={"ArgumentName": "x-amz-tagging"},
        ) from None
    return check_tags(pairs)


def tags_from_document(tagging: Mapping[str, Any], most: int = MAX_TAGS) -> Tags:
    """The tags of a Tagging document. Raises S3Error MalformedXML, InvalidTag."""
    if "TagSet" not in tagging:
        raise S3Error("MalformedXML")
    pairs = []
    for tag in tagging["TagSet"] or ():
        if "Key" not in tag or "Value" not in tag:
            raise S3Error("MalformedXML")
        pairs.append((str(tag["Key"]), str(tag["Value"])))
    return check_tags(pairs, most)


def tag_set(tags: Tags) -> list[dict[str, str]]:
    """The model's TagSet."""
    return [{"Key": key, "Value": value} for key, value in tags]
