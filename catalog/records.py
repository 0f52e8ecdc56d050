"""The record codec: versioned msgpack arrays, readable by later versions and safe from earlier ones.

Wire form: msgpack array [version, flags, field, field, …]. `version` is one byte. `flags` is nil or the array
[incompatible bits, compatible bits]: a reader that meets an incompatible bit, or a version, that it does not know
refuses the record; compatible bits and trailing fields that it does not know survive a rewrite. New fields are
appended with a default, so older records still decode. Specified in docs/formats/catalog.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from catalog.errors import Corrupt, FutureVersion

__all__ = ["Codec", "Flags", "Record"]


class Flags(msgspec.Struct, array_like=True, frozen=True):
    """The two bit sets. `unknown` carries trailing fields of a newer writer in memory; it is not on the wire here."""

    incompatible: int = 0
    compatible: int = 0
    unknown: tuple[Any, ...] = ()


class Record(msgspec.Struct, array_like=True, kw_only=True, frozen=True):
    """Base of every stored record.

    Subclass with `tag=<version byte, 1…127>, kw_only=True, frozen=True`; fields may only be appended, with defaults.
    """

    flags: Flags | None = None


R = TypeVar("R", bound=Record)

#: What msgspec raises on bytes that nobody encoded: bad text is a ValueError, deep nesting a RecursionError.
_UNDECODABLE = (msgspec.MsgspecError, ValueError, TypeError, RecursionError)


class Codec(Generic[R]):
    """Encodes and decodes one record type. `incompatible` are the bits that this program knows."""

    __slots__ = ("_decode", "_encode", "_fields", "_head", "_incompatible", "_type", "_version", "encode_new")

    def __init__(self, record: type[R], *, incompatible: int = 0) -> None:
        """Raises TypeError for a type that does not keep to the rules of `Record`."""
        version = record.__struct_config__.tag
        if not isinstance(version, int) or not 1 <= version <= 127:
            raise TypeError(f"{record.__name__} needs tag=<version byte>")
        if not record.__struct_fields__ or record.__struct_fields__[0] != "flags":
            raise TypeError(f"{record.__name__} needs kw_only=True")
        self._type = record
        self._version = version
        self._incompatible = incompatible
        self._fields = len(record.__struct_fields__)
        # What every record with exactly our fields begins with: the array header and the version.
        self._head = msgspec.msgpack.encode([version] + [0] * self._fields)[: -self._fields]
        self._encode = msgspec.msgpack.Encoder().encode
        #: `encode` of a record that was made and not decoded.
        self.encode_new: Callable[[R], bytes] = self._encode
        self._decode = msgspec.msgpack.Decoder(record).decode

    def encode(self, record: R) -> bytes:
        """The record's bytes, with the flags and unknown fields that it was decoded with."""
        flags = record.flags
        if flags is None:
            return self._encode(record)
        values = [getattr(record, name) for name in record.__struct_fields__[1:]]
        bits = [flags.incompatible, flags.compatible] if flags.incompatible or flags.compatible else None
        return self._encode([self._version, bits, *values, *flags.unknown])

    def decode(self, data: bytes) -> R:
        """Raises FutureVersion for a version or an incompatible bit from the future, Corrupt for anything else that
        is not such a record."""
        if data.startswith(self._head):
            try:
                record = self._decode(data)
            except _UNDECODABLE as error:
                raise Corrupt(f"a {self._type.__name__} record does not decode: {error}") from None
            if record.flags is None:
                return record
        return self._decode_other(data)

    def _decode_other(self, data: bytes) -> R:
        """A record that has flags, or more or fewer fields than ours."""
        name = self._type.__name__
        try:
            values = msgspec.msgpack.decode(data)
        except _UNDECODABLE as error:
            raise Corrupt(f"a {name} record does not decode: {error}") from None
        if not isinstance(values, list) or len(values) < 2 or not isinstance(values[0], int):
            raise Corrupt(f"a {name} record is not an array with a version")
        version, bits = values[:2]
        if version > self._version:
            raise FutureVersion(f"a {name} record has version {version}; this program reads up to {self._version}")
        if bits is not None and not (
            isinstance(bits, list) and len(bits) == 2 and all(isinstance(b, int) and b >= 0 for b in bits)
        ):
            raise Corrupt(f"a {name} record has malformed flags")
        incompatible, compatible = bits or (0, 0)
        if incompatible & ~self._incompatible:
            raise FutureVersion(f"a {name} record uses features that this program does not know")
        try:
            record = msgspec.convert([version, None, *values[2 : self._fields + 1]], self._type)
        except _UNDECODABLE as error:
            raise Corrupt(f"a {name} record does not decode: {error}") from None
        unknown = tuple(values[self._fields + 1 :])
        if incompatible or compatible or unknown:
            return msgspec.structs.replace(record, flags=Flags(incompatible, compatible, unknown))
        return record
