"""Every race, for the suites that walk them all."""

from __future__ import annotations

from tests.races.race import Race
from tests.races.scenarios import (
    CompleteOrAbort,
    CopyDeleteCompact,
    CopyOfMultipart,
    Creators,
    DeletedBucket,
    HeadMovedAndBack,
    LatePart,
    LongRead,
    PausedCompaction,
    PausedGateway,
    PieceMovedAndBack,
    TwoCompactions,
)
from tests.races.scenarios_background import PutsBesideCompaction, RepairsAndDeletion, VersionsOfOneKey

RACES: tuple[type[Race], ...] = (
    PausedGateway,
    PausedCompaction,
    HeadMovedAndBack,
    PieceMovedAndBack,
    CopyDeleteCompact,
    TwoCompactions,
    CopyOfMultipart,
    LongRead,
    LatePart,
    CompleteOrAbort,
    Creators,
    DeletedBucket,
    RepairsAndDeletion,
    VersionsOfOneKey,
    PutsBesideCompaction,
)
