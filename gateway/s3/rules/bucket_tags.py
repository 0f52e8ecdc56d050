"""A bucket's own tags: kept as a settings document, with limits other than those of objects."""

from __future__ import annotations

import msgspec

from engine.types import Bucket
from gateway.s3.rules.tags import Tags

#: The settings document's name.
SETTING = "tagging"
MAX_TAGS = 50

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(tuple[tuple[str, str], ...])


def bucket_tags(bucket: Bucket) -> Tags | None:
    """The bucket's tags, None if nobody set any."""
    document = bucket.settings.get(SETTING)
    return None if document is None else _decoder.decode(document)


def with_tags(settings: dict[str, bytes], tags: Tags | None) -> dict[str, bytes]:
    """The settings with other tags; None removes them."""
    others = {name: document for name, document in settings.items() if name != SETTING}
    return others if tags is None else {**others, SETTING: _encode(tags)}
