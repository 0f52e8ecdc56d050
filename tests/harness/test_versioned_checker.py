"""The checker of versioned histories must tell a good one from a bad one."""

from __future__ import annotations

import time

import pytest

from tests.harness.linearizability import NEVER, Operation, Step
from tests.harness.versioned import UNTOLD, Entries, Entry, Push, Remove, Versions, lacks

KEY = "key"
ONE: Entry = ("id1", "one")
TWO: Entry = ("id2", "two")
MARKER: Entry = ("id3", None)


class Story:
    """Operations one after the other."""

    def __init__(self) -> None:
        self.history = Versions()
        self.now = 0.0

    def add(self, name: str, step: Step, *, optional: bool = False) -> None:
        end = NEVER if optional else self.now + 0.5
        self.history.add(KEY, Operation(name, self.now, step, end, optional))
        self.now += 1

    def wrote(self, *entries: Entry) -> None:
        for entry in entries:
            self.history.learn(KEY, entry, told=True)
            self.add(f"wrote {entry}", Push(entry))

    def unanswered(self, value: str | None) -> None:
        self.add(f"lost {value}", Push((UNTOLD, value)), optional=True)

    def holds(self, *entries: Entry) -> bool:
        """Whether a key that has these versions in the end, newest first, can be explained. The search knows that."""
        self.history.end(KEY, entries, self.now, time.monotonic())
        violations = self.history.violations()
        assert not any("no order found in" in violation for violation in violations), "it was given up"
        return not violations


def story(*entries: Entry) -> Story:
    begun = Story()
    begun.wrote(*entries)
    return begun


def test_versions_are_kept_in_order() -> None:
    assert story(ONE, TWO, MARKER).holds(MARKER, TWO, ONE)
    assert not story(ONE, TWO, MARKER).holds(MARKER, ONE, TWO)


@pytest.mark.parametrize("left", [(TWO, ONE), (MARKER, ONE), (MARKER, TWO), ()])
def test_a_lost_version_or_marker_is_found(left: Entries) -> None:
    assert not story(ONE, TWO, MARKER).holds(*left)


def test_other_bytes_under_an_id_are_found() -> None:
    with pytest.raises(AssertionError, match="id1: two"):
        story(ONE).history.learn(KEY, ("id1", "two"))


def test_a_deleted_version_stays_away() -> None:
    for left, good in (((ONE,), True), ((TWO, ONE), False)):
        told = story(ONE, TWO)
        told.add("delete", Remove("id2"))
        assert told.holds(*left) is good
    told = story(ONE, TWO)
    told.add("delete", Remove("id2"))
    told.add("gone", lacks("id2"))
    assert told.holds(ONE)
    told = story(ONE)
    told.add("gone", lacks("id1"))
    assert not told.holds(ONE)


def test_a_write_without_an_answer_may_have_made_one_version_of_any_new_id() -> None:
    for left, good in (
        ((ONE,), True),
        ((("new", "two"), ONE), True),
        ((("new", None), ONE), False),
        ((("newer", "two"), ("new", "two"), ONE), False),
    ):
        told = story(ONE)
        told.unanswered("two")
        assert told.holds(*left) is good


def test_what_an_unanswered_write_made_keeps_the_id_that_it_was_seen_with() -> None:
    for shown, good in (("new", True), ("newer", False)):
        told = story(ONE)
        told.unanswered(None)
        told.history.learn(KEY, ("new", None))
        told.add("get", told.history.sees_latest(("new", None)))
        assert told.holds((shown, None), ONE) is good


def test_an_unanswered_write_does_not_stand_for_an_answered_one() -> None:
    """The marker that was acknowledged is gone; that of the other write is not taken for it."""
    told = story(ONE)
    told.unanswered(None)
    told.wrote(MARKER)
    assert not told.holds(("other", None), ONE)


def test_the_latest_version_must_be_seen() -> None:
    for seen, good in ((TWO, True), (ONE, False), (None, False)):
        told = story(ONE, TWO)
        told.add("get", told.history.sees_latest(seen))
        assert told.holds(TWO, ONE) is good


def test_an_outage_of_many_unanswered_writes_is_no_riddle() -> None:
    """Twenty writes of which nobody knows; one was seen; then an answer that nothing explains. Each is found out."""
    for left, good in ((("new", "lost 7"), True), (("new", "lost 20"), False)):
        told = story(ONE)
        for number in range(20):
            told.unanswered(f"lost {number}")
            told.unanswered(None)
        assert told.holds(left, ONE) is good


def test_many_unanswered_writes_of_the_same_value_are_no_riddle() -> None:
    """Markers that nothing tells apart, one of them deleted; and their order in the end is what it is."""
    markers: Entries = tuple((f"marker {number}", None) for number in range(12))
    for left, good in ((markers[1:], True), (markers, False), ((*markers[1:], ("more", None)), False)):
        told = story(ONE)
        for number in range(12):
            told.unanswered(None)
            told.wrote((f"told {number}", f"{number}"))
            told.add("delete", Remove(f"told {number}"))
        told.history.learn(KEY, markers[0])
        told.add("get", told.history.sees_latest(markers[0]))
        told.add("lost delete", Remove(markers[0][0]), optional=True)
        told.add("gone", lacks(markers[0][0]))
        assert told.holds(*left, ONE) is good


def test_a_write_without_an_answer_that_lies_deep_in_the_end_is_found_at_once() -> None:
    """What lies above it was written after it, whenever that was answered."""
    told = story(ONE)
    told.unanswered("lost")
    later: Entries = tuple((f"id {number}", f"{number}") for number in range(200))
    for entry in later:
        told.wrote(entry)
    assert told.holds(*reversed(later), ("new", "lost"), ONE)


def test_a_deletion_of_a_version_without_an_answer_happened_or_did_not() -> None:
    for left, good in (((TWO, ONE), True), ((ONE,), True), ((TWO,), False)):
        told = story(ONE, TWO)
        told.add("lost delete", Remove("id2"), optional=True)
        assert told.holds(*left) is good
