"""What the processes of one gateway say to each other over their channel (see `guests` and `guest`)."""

from __future__ import annotations

from typing import Final

import msgspec

from core.metrics import Figure

#: Figures in one message, which stays below a channel's limit.
FIGURES: Final = 400
#: Bytes of a page of metrics in one message.
PAGE: Final = 96 << 10


class Serve(msgspec.Struct, tag=2):
    """To a guest, with a connection: it is yours. `moved`: it was served before, and is between two requests."""

    moved: bool = False


class Take(msgspec.Struct, tag=13):
    """From a guest, with a connection: it is yours, between two requests."""


class Reload(msgspec.Struct, tag=3):
    """To a guest: take new certificate files into service."""


class TellFigures(msgspec.Struct, tag=4):
    """To a guest: what do you count?"""

    number: int


class Ping(msgspec.Struct, tag=11):
    """To a guest: do you still run? Answered by `Figures` without any. `room`: connections that bring small writes and
    that the host would take until the next one."""

    number: int
    room: int = 0


class ExpectKey(msgspec.Struct, tag=12):
    """To a guest: the next root key, whose file is there, is about to be put in force. Answered by `Figures` without
    any, once the guest opens what lies under either."""

    number: int


class Tidy(msgspec.Struct, tag=10):
    """To a guest: look which nodes are there, hand over what you staged and what you know to be superfluous, and tell
    how far back your reads can still see. Answered by `Figures` without any."""

    number: int


class Figures(msgspec.Struct, tag=5):
    """The answer, in one or more messages."""

    number: int
    figures: list[Figure]
    last: bool


class Ready(msgspec.Struct, tag=6):
    """From a guest: it can serve."""


class Settle(msgspec.Struct, tag=7):
    """From a guest: what it staged may be settled."""


class TellPage(msgspec.Struct, tag=8):
    """From a guest, asked for the page of metrics: what is it?"""

    number: int


class Page(msgspec.Struct, tag=9):
    """The answer, in one or more messages."""

    number: int
    part: bytes
    last: bool


Message = Serve | Take | Reload | TellFigures | Ping | ExpectKey | Tidy | Figures | Ready | Settle | TellPage | Page

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Message).decode
