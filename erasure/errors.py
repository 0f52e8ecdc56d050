"""What can be wrong with bytes that come back, each naming exactly what is damaged.

ErasureError
├── DamagedFrame      a sealed frame that does not open (body id, frame number)
├── DamagedShard      a shard whose hash is not the footer's (segment id, piece index, stripe)
├── DamagedFooter     a footer that can't be parsed, or whose hash is not the catalog's
├── WrongPiece        a sound footer of another piece than the one asked for
├── FutureFormat      a record of a version, code or feature that this program does not know
├── NotEnoughShards   fewer than k shards to decode from
├── CodecError        the coding library refused; nothing is said of the data
└── WrongKey          a wrapped key that does not open
"""

from __future__ import annotations

from core.errors import AtollError


class ErasureError(AtollError):
    """Base of the errors below."""


class DamagedFrame(ErasureError):
    """A sealed frame that does not open: flipped, swapped, truncated, replayed, or sealed with another key."""

    def __init__(self, body_id: bytes, frame: int, reason: str = "does not open") -> None:
        super().__init__(f"frame {frame} of body {body_id.hex()}: {reason}")
        self.body_id = body_id
        self.frame = frame


class DamagedShard(ErasureError):
    """A shard that is not the one its footer names."""

    def __init__(self, segment_id: bytes, index: int, stripe: int, reason: str = "wrong hash") -> None:
        super().__init__(f"shard {index} of stripe {stripe} of segment {segment_id.hex()}: {reason}")
        self.segment_id = segment_id
        self.index = index
        self.stripe = stripe


class DamagedFooter(ErasureError):
    """A piece's footer that can't be used. Ids are known only when the caller said which piece it expects."""

    def __init__(self, reason: str, segment_id: bytes = b"", index: int = -1) -> None:
        where = f" of piece {index} of segment {segment_id.hex()}" if segment_id else ""
        super().__init__(f"footer{where}: {reason}")
        self.segment_id = segment_id
        self.index = index


class WrongPiece(DamagedFooter):
    """A sound footer, but of another piece than the one asked for."""


class FutureFormat(ErasureError):
    """A record that a later program wrote in a way that this one must not guess at."""


class NotEnoughShards(ErasureError):
    """Fewer shards than the scheme needs to decode."""

    def __init__(self, have: int, need: int) -> None:
        super().__init__(f"{have} shards of {need} that decoding needs")
        self.have = have
        self.need = need


class CodecError(ErasureError):
    """The coding library refused or answered nonsense."""


class WrongKey(ErasureError):
    """A wrapped key that does not open under the given key and context."""
