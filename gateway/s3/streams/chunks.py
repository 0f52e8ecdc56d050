"""The aws-chunked framing: an incremental decoder, without I/O.

Source: "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks", and "Including
trailing headers" of the S3 API reference. A body is `<hex size>[;chunk-signature=<hex>]\\r\\n<bytes>\\r\\n` repeated, a
chunk of size 0 without bytes, then trailer lines up to the end of the HTTP body.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection
from hashlib import sha256

from core.buffers import Buffer
from gateway.s3.errors import S3Error
from gateway.s3.signature.keys import sign
from gateway.s3.signature.payload import EMPTY_SHA256
from gateway.s3.signature.verify import ChunkSeed

#: Largest signed chunk: its bytes are held until its signature was verified.
MAX_SIGNED_CHUNK = 16 << 20

#: S3 wants every chunk but the last to have this many bytes. Some clients send less, so a body may have MANY_SMALL
#: smaller ones: each costs us as much as a large one.
SMALL_CHUNK = 8192
MANY_SMALL = 10_000

_MAX_LINE = 1024  # a chunk's header
_MAX_TRAILERS = 16 << 10
_CRUMB = 4096  # pieces of a held chunk below this size are copied together
_SIZE = re.compile(rb"[0-9a-fA-F]{1,16}")
_TRAILER_NAME = re.compile(r"[a-z0-9-]{1,128}")
_TRAILER_SIGNATURE = "x-amz-trailer-signature"


def _bad_framing() -> S3Error:
    return S3Error("InvalidRequest", "The aws-chunked framing of the request body is malformed.")


def _incomplete() -> S3Error:
    return S3Error("IncompleteBody", "The request body terminated unexpectedly")


class ChunkDecoder:
    """Decodes one body. `feed` what arrives, take what it gives, `close` at the end of the HTTP body.

    With a `seed` every chunk's signature is verified before its bytes are given. `announced` are the trailers of
    x-amz-trailer; after `close` they are in `trailers`.
    """

    def __init__(self, *, seed: ChunkSeed | None, announced: Collection[str], trailer_allowed: bool) -> None:
        self.trailers: dict[str, str] = {}
        self._announced = frozenset(announced)
        self._trailer_allowed = trailer_allowed
        self._seed = seed
        self._previous = seed.signature if seed is not None else ""
        self._line = bytearray()  # an unfinished line, or all trailers
        self._left = 0  # bytes of the current chunk still to come
        self._state = self._in_header
        self._small = 0
        self._held: list[memoryview | bytearray] = []
        self._hash = sha256()
        self._signature = ""

    def feed(self, data: Buffer) -> list[memoryview]:
        """Payload in `data`, in order, not copied. Raises S3Error."""
        out: list[memoryview] = []
        view = memoryview(data)
        position, end = 0, len(view)
        while position < end:
            position = self._state(view, position, out)
        return out

    def close(self) -> None:
        """The HTTP body is over: verify that the framing is, too, and read the trailers. Raises S3Error."""
        if self._state != self._in_trailers:
            raise _incomplete()
        self._read_trailers()

    def _in_header(self, view: memoryview, position: int, out: list[memoryview]) -> int:
        window = bytes(view[position : position + _MAX_LINE])
        index = window.find(b"\n")
        if index < 0:
            self._line += window
            if len(self._line) > _MAX_LINE:
                raise _bad_framing()
            return position + len(window)
        line = bytes(self._line) + window[:index]
        self._line.clear()
        if len(line) > _MAX_LINE or not line.endswith(b"\r"):
            raise _bad_framing()
        self._begin_chunk(line[:-1])
        return position + index + 1

    def _begin_chunk(self, line: bytes) -> None:
        size, _, extension = line.partition(b";")
        if not _SIZE.fullmatch(size):
            raise _bad_framing()
        self._left = int(size, 16)
        if 0 < self._left < SMALL_CHUNK:
            self._small += 1
            if self._small > MANY_SMALL:
                raise S3Error("InvalidChunkSizeError")
        if self._seed is not None:
            name, _, value = extension.partition(b"=")
            if name.strip() != b"chunk-signature" or not value:
                raise _bad_framing()
            self._signature = value.decode("latin-1").strip()
            if self._left > MAX_SIGNED_CHUNK:
                raise S3Error("InvalidRequest", f"A signed chunk must not exceed {MAX_SIGNED_CHUNK} bytes.")
            self._hash = sha256()
        if self._left:
            self._state = self._in_data
            return
        self._verify_chunk()
        self._state = self._in_trailers

    def _in_data(self, view: memoryview, position: int, out: list[memoryview]) -> int:
        piece = view[position : position + self._left]
        self._left -= len(piece)
        if self._seed is None:
            out.append(piece)
        else:
            self._hash.update(piece)
            self._hold(piece)
        if not self._left:
            if self._seed is not None:
                self._verify_chunk()
                out += [memoryview(one) for one in self._held]
                self._held.clear()
            self._state = self._after_data
        return position + len(piece)

    def _hold(self, piece: memoryview) -> None:
        # a view of a few bytes would weigh a hundred times what it shows
        if len(piece) >= _CRUMB:
            self._held.append(piece)
        elif self._held and isinstance(self._held[-1], bytearray):
            self._held[-1] += piece
        else:
            self._held.append(bytearray(piece))

    def _after_data(self, view: memoryview, position: int, out: list[memoryview]) -> int:
        # "\r\n", possibly in two reads
        piece = view[position : position + 2 - len(self._line)]
        self._line += piece
        if not b"\r\n".startswith(bytes(self._line)):
            raise _bad_framing()
        if len(self._line) == 2:
            self._line.clear()
            self._state = self._in_header
        return position + len(piece)

    def _in_trailers(self, view: memoryview, position: int, out: list[memoryview]) -> int:
        self._line += view[position:]
        if len(self._line) > _MAX_TRAILERS:
            raise S3Error("MalformedTrailerError")
        return len(view)

    def _verify_chunk(self) -> None:
        seed = self._seed
        if seed is None:
            return
        text = (
            f"AWS4-HMAC-SHA256-PAYLOAD\n{seed.timestamp}\n{seed.scope}\n{self._previous}\n{EMPTY_SHA256}\n"
            f"{self._hash.hexdigest()}"
        )
        self._require(sign(seed.key, text), self._signature)
        self._previous = self._signature

    @staticmethod
    def _require(computed: str, sent: str) -> None:
        if not sent.isascii() or not hmac.compare_digest(computed, sent):
            raise S3Error("SignatureDoesNotMatch")

    def _read_trailers(self) -> None:
        signature = ""
        signed = []
        for line in bytes(self._line).split(b"\n"):
            line = line.rstrip(b"\r")
            if not line:
                continue
            try:
                name, colon, value = line.decode("ascii").partition(":")
            except UnicodeDecodeError:
                raise S3Error("MalformedTrailerError") from None
            name, value = name.strip().lower(), value.strip()
            if not colon or not _TRAILER_NAME.fullmatch(name):
                raise S3Error("MalformedTrailerError")
            if name == _TRAILER_SIGNATURE:
                signature = value
                continue
            if signature or name in self.trailers or not self._trailer_allowed or name not in self._announced:
                raise S3Error("MalformedTrailerError")
            self.trailers[name] = value
            signed.append(f"{name}:{value}\n")
        if set(self.trailers) != self._announced and self._trailer_allowed:
            raise S3Error("MalformedTrailerError")
        if self._seed is not None and self._trailer_allowed:
            self._verify_trailers(signature, "".join(signed))

    def _verify_trailers(self, signature: str, signed: str) -> None:
        seed = self._seed
        assert seed is not None
        text = (
            f"AWS4-HMAC-SHA256-TRAILER\n{seed.timestamp}\n{seed.scope}\n{self._previous}\n"
            f"{sha256(signed.encode()).hexdigest()}"
        )
        self._require(sign(seed.key, text), signature)
