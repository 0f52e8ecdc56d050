"""What a host remembers of commits, and the framing of messages between it and its guests."""

from __future__ import annotations

import random
from collections.abc import Callable

from catalog.keys import u64
from catalog.lmdb_engine import wire
from catalog.lmdb_engine.history import CommitHistory
from catalog.lmdb_engine.overlay import Batch


def test_the_history_is_bounded_and_knows_what_it_forgot() -> None:
    history = CommitHistory(10, most_batches=3, most_keys=100)
    for sequence in range(11, 16):
        batch = Batch()
        batch.merge({u64(sequence): b""})
        batch.sequence = sequence
        history.add(batch)
    assert not history.changed(12, (u64(12),), ())
    assert history.changed(11, (b"other",), ())
    assert history.changed(12, (u64(13),), ())
    assert not history.changed(13, (u64(13),), ())
    assert history.changed(12, (), ((u64(14), u64(15)),))
    assert not history.changed(14, (), ((u64(14), u64(15)),))
    large = Batch()
    large.merge({u64(number): b"" for number in range(101)})
    large.sequence = 16
    history.add(large)
    assert history.changed(15, (b"other",), ())
    assert not history.changed(16, (b"other",), ())


def test_messages_are_found_however_the_stream_is_cut() -> None:
    rng = random.Random(2)
    bodies = [rng.randbytes(rng.choice((1, 3, 100, 5000))) for _ in range(200)]
    stream = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    cuts: list[Callable[[], int]] = [lambda: 1, lambda: rng.randrange(1, 8), lambda: rng.randrange(1, 9000)]
    for cut in cuts:
        frames, found, position = wire.Frames(), [], 0
        while position < len(stream):
            step = cut()
            found += [bytes(body) for body in frames.feed(stream[position : position + step])]
            position += step
        assert found == bodies
