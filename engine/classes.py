"""Storage classes: which schemes code new segments, and what an acknowledgement promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.errors import EngineError
from erasure.scheme import Scheme


class UnknownStorageClass(EngineError):
    """No storage class has this name."""


@dataclass(frozen=True, slots=True)
class StorageClass:
    """A ladder of schemes, widest first, all with the same m, and a write margin.

    A segment is written with the first scheme that enough nodes can take. It is acknowledged once it survives the loss
    of any `margin` domains.
    """

    name: str
    ladder: tuple[Scheme, ...]
    margin: int

    def __post_init__(self) -> None:
        if not self.ladder or len({scheme.m for scheme in self.ladder}) != 1:
            raise ValueError("a ladder has at least one scheme, all with the same m")
        if list(self.ladder) != sorted(self.ladder, key=lambda scheme: -scheme.k):
            raise ValueError("a ladder goes from wide to narrow")
        if not 0 <= self.margin <= self.ladder[0].m:
            raise ValueError("the write margin is between 0 and m")

    @classmethod
    def of(cls, name: str, schemes: Sequence[str] | str, margin: int | None = None) -> StorageClass:
        """From texts such as `["4+2", "2+2", "1+2"]`; the margin defaults to ⌈m/2⌉."""
        ladder = tuple(Scheme.parse(text) for text in ([schemes] if isinstance(schemes, str) else schemes))
        return cls(name, ladder, -(-ladder[0].m // 2) if margin is None else margin)

    @property
    def full(self) -> Scheme:
        return self.ladder[0]


def survives(pieces_by_domain: Mapping[str, int], scheme: Scheme, margin: int) -> bool:
    """Whether a segment with these pieces is readable after the loss of any `margin` domains."""
    counts = sorted(pieces_by_domain.values(), reverse=True)
    return sum(counts[margin:]) >= scheme.k


#: Every class that S3 names for objects that are read at once is served alike until policies differ.
ALIASES = (
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "EXPRESS_ONEZONE",
)


@dataclass(frozen=True, slots=True)
class StorageClasses:
    """The classes of a deployment, by S3's name."""

    classes: Mapping[str, StorageClass] = field(
        default_factory=lambda: {"STANDARD": StorageClass.of("STANDARD", ("4+2", "2+2", "1+2"))}
    )
    aliases: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(ALIASES, "STANDARD"))

    def get(self, name: str) -> StorageClass:
        """Raises UnknownStorageClass."""
        found = self.classes.get(self.aliases.get(name, name))
        if found is None:
            raise UnknownStorageClass(f"no storage class is named {name!r}")
        return found

    def __contains__(self, name: str) -> bool:
        return self.aliases.get(name, name) in self.classes
