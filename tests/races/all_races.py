"""Every race, with the rules that it guards: the one list for the suites that walk them all."""

from __future__ import annotations

from tests.races import mutations
from tests.races.mutations import Mutation
from tests.races.race import Race
from tests.races.races_of_gateways import PausedCompaction, PausedGateway
from tests.races.races_of_keys import Creators, DeletedBucket, HeadMovedAndBack, VersionsOfOneKey
from tests.races.races_of_packs import CopyDeleteCompact, LongRead, PutsBesideCompaction, TwoCompactions
from tests.races.races_of_pieces import PieceMovedAndBack, RepairsAndDeletion
from tests.races.races_of_uploads import CompleteOrAbort, CopyOfMultipart, LatePart

#: A race → the rules without each of which it must break.
GUARDED: dict[type[Race], tuple[Mutation, ...]] = {
    PausedGateway: (mutations.no_guard,),
    PausedCompaction: (mutations.no_guard,),
    HeadMovedAndBack: (mutations.late_delete_believes,),
    PieceMovedAndBack: (mutations.one_name,),
    CopyDeleteCompact: (mutations.blind_references,),
    TwoCompactions: (mutations.blind_retirement,),
    PutsBesideCompaction: (mutations.foreign_packs_are_dead,),
    CopyOfMultipart: (mutations.blind_references, mutations.no_horizon),
    LongRead: (mutations.no_horizon, mutations.no_second_look, mutations.locations_for_ever),
    LatePart: (mutations.parts_without_upload,),
    CompleteOrAbort: (mutations.parts_without_upload,),
    Creators: (mutations.head_from_a_read,),
    DeletedBucket: (mutations.immortal_bucket,),
    RepairsAndDeletion: (),
    VersionsOfOneKey: (),
}
RACES: tuple[type[Race], ...] = tuple(GUARDED)
