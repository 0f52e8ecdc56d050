"""Parts, shards and names: what was made comes back, and nothing else is taken for it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import FutureVersion
from core.ids import is_snapshot_name, new_piece_name
from engine.snapshots.keys import ShardName
from engine.snapshots.parts import (
    HEADER_LENGTH,
    Content,
    Facts,
    SealedPart,
    SnapshotDamaged,
    first_link,
    is_sound,
    join,
    open_part,
    read_header,
    seal_part,
    shards_of,
)
from erasure.scheme import Scheme
from tests.snapshots.world import DEPLOYMENT, ROOT, keys_of

KEYS = keys_of(ROOT)
FACTS = Facts(point=True, lineage=1, sequence=77, time_us=1_800_000_000_000_000)
VECTOR = Path(__file__).with_name("golden.json")

contents = st.builds(
    Content,
    puts=st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.binary(max_size=300)), max_size=20),
    deletes=st.lists(st.binary(min_size=1, max_size=40), max_size=10),
    ceiling=st.integers(0, 1 << 60),
)


def sealed(content: Content | None = None, part: int = 3, previous: bytes = b"p" * 32) -> SealedPart:
    return seal_part(KEYS, DEPLOYMENT, 5, part, FACTS, previous, content or Content(puts=[(b"\x10key", b"value")]))


@given(contents, st.sampled_from(["1+0", "1+2", "2+2", "4+2", "10+4"]), st.randoms())
@settings(max_examples=60, deadline=None)
def test_any_k_shards_give_the_part(content: Content, scheme_text: str, rng: object) -> None:
    scheme = Scheme.parse(scheme_text)
    part = sealed(content)
    shards = shards_of(KEYS, DEPLOYMENT, part, scheme, 9)
    assert len(shards) == scheme.n
    chosen = rng.sample(range(scheme.n), scheme.k)  # type: ignore[attr-defined]
    have = {}
    for index in chosen:
        text, header, shard = shards[index]
        name = KEYS.read_name(text)
        assert name == ShardName(5, 3, 9, index, scheme.k)
        read = read_header(KEYS, DEPLOYMENT, name, header)
        assert is_sound(read, scheme.k, shard)
        assert read.facts == FACTS
        have[index] = bytes(shard)
    name = ShardName(5, 3, 9, chosen[0], scheme.k)
    again = join(name, read, have)
    assert again == part
    assert open_part(KEYS, DEPLOYMENT, again) == content


@given(st.integers(0, HEADER_LENGTH - 1), st.integers(0, 7))
@settings(max_examples=200, deadline=None)
def test_every_bit_of_a_header_is_sealed(place: int, bit: int) -> None:
    text, header, _ = shards_of(KEYS, DEPLOYMENT, sealed(), Scheme(4, 2), 9)[1]
    name = KEYS.read_name(text)
    assert name is not None
    forged = bytearray(header)
    forged[place] ^= 1 << bit
    with pytest.raises(SnapshotDamaged):
        read_header(KEYS, DEPLOYMENT, name, forged)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_every_bit_of_a_shard_is_hashed(data: st.DataObject) -> None:
    text, header, shard = shards_of(KEYS, DEPLOYMENT, sealed(), Scheme(2, 1), 9)[data.draw(st.integers(0, 2))]
    name = KEYS.read_name(text)
    assert name is not None
    flipped = bytearray(shard)
    place = data.draw(st.integers(0, len(flipped) - 1))
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    assert not is_sound(read_header(KEYS, DEPLOYMENT, name, header), name.k, flipped)
    assert not is_sound(read_header(KEYS, DEPLOYMENT, name, header), name.k, bytes(shard)[:-1])


@pytest.mark.parametrize("field", ["chain", "part", "attempt", "index", "k"])
def test_a_shard_under_another_name_is_refused(field: str) -> None:
    text, header, _ = shards_of(KEYS, DEPLOYMENT, sealed(), Scheme(4, 2), 9)[1]
    name = KEYS.read_name(text)
    assert name is not None
    moved = {**{f: getattr(name, f) for f in name.__slots__}, field: getattr(name, field) + 1}
    with pytest.raises(SnapshotDamaged, match="of another place"):
        read_header(KEYS, DEPLOYMENT, ShardName(**moved), header)


def test_a_part_opens_only_in_its_place() -> None:
    part = sealed()
    wrong = [
        SealedPart(part.chain + 1, part.part, part.facts, part.previous, part.sealed, part.hash),
        SealedPart(part.chain, part.part + 1, part.facts, part.previous, part.sealed, part.hash),
        SealedPart(part.chain, part.part, part.facts, b"q" * 32, part.sealed, part.hash),
        SealedPart(part.chain, part.part, Facts(False, 1, 77, FACTS.time_us), part.previous, part.sealed, part.hash),
        SealedPart(part.chain, part.part, part.facts, part.previous, part.sealed[:-1], part.hash),
    ]
    for other in wrong:
        with pytest.raises(SnapshotDamaged, match="does not open"):
            open_part(KEYS, DEPLOYMENT, other)
    with pytest.raises(SnapshotDamaged):
        open_part(KEYS, b"e" * 16, part)
    with pytest.raises(SnapshotDamaged):
        open_part(keys_of(bytes(32)), DEPLOYMENT, part)


def test_the_same_content_is_never_sealed_alike() -> None:
    assert sealed().sealed != sealed().sealed


def test_a_later_format_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.snapshots.parts.FORMAT", 2)
    text, header, _ = shards_of(KEYS, DEPLOYMENT, sealed(), Scheme(1, 2), 9)[0]
    monkeypatch.undo()
    name = KEYS.read_name(text)
    assert name is not None
    with pytest.raises(FutureVersion, match="format 2"):
        read_header(KEYS, DEPLOYMENT, name, header)


def test_names_have_the_form_of_pieces_but_never_an_epoch_of_one() -> None:
    name = KEYS.name(ShardName((1 << 48) - 1, (1 << 32) - 1, (1 << 32) - 1, 255, 255))
    assert len(name) == len(new_piece_name(1))
    assert is_snapshot_name(name)
    assert not is_snapshot_name(new_piece_name(1 << 50))
    assert KEYS.read_name(name) == ShardName((1 << 48) - 1, (1 << 32) - 1, (1 << 32) - 1, 255, 255)
    assert keys_of(bytes(32)).read_name(name) is None
    for junk in ("", KEYS.prefix, KEYS.prefix + "zz" * 16, KEYS.prefix + "00" * 15, new_piece_name(3)):
        assert KEYS.read_name(junk) is None


def test_a_name_shows_nothing_to_who_lacks_the_key() -> None:
    names = [KEYS.name(ShardName(5, part, 0, 0, 4))[17:] for part in range(100)]
    same = [sum(a == b for a, b in zip(one, other, strict=True)) for one, other in itertools.pairwise(names)]
    assert max(same) < 16, "neighbours look alike"


def test_the_golden_vector_reads_back() -> None:
    golden = json.loads(VECTOR.read_text())
    keys = keys_of(bytes.fromhex(golden["root"]))
    deployment = bytes.fromhex(golden["deployment"])
    assert keys.prefix == golden["prefix"]
    previous = first_link(deployment, golden["chain"])
    for part in golden["parts"]:
        have = {}
        for name_text, raw in part["shards"][-part["k"] :]:
            name = keys.read_name(name_text)
            assert name is not None
            assert (name.chain, name.part, name.k) == (golden["chain"], part["part"], part["k"])
            data = bytes.fromhex(raw)
            header = read_header(keys, deployment, name, data[:HEADER_LENGTH])
            assert is_sound(header, part["k"], data[HEADER_LENGTH:])
            have[name.index] = data[HEADER_LENGTH:]
        assert name is not None
        assert header.previous == previous
        content = open_part(keys, deployment, join(name, header, have))
        assert [[key.hex(), value.hex()] for key, value in content.puts] == part["puts"]
        assert [key.hex() for key in content.deletes] == part["deletes"]
        assert header.facts == Facts(part["point"], part["lineage"], part["sequence"], part["time_us"])
        assert content.ceiling == part["ceiling"]
        previous = header.part_hash
