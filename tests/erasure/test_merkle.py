"""Merkle trees over pieces: the RFC 6962 shape, streaming, proofs."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.merkle import LEAF, MerkleBuilder, merkle_proof, merkle_root, verify_proof

PIECE = random.Random(3).randbytes(40 * LEAF)
lengths = st.one_of(
    st.integers(1, 40 * LEAF), st.builds(lambda n, d: n * LEAF + d, st.integers(1, 39), st.integers(-1, 1))
)


def by_definition(data: bytes) -> bytes:
    """RFC 6962, section 2.1, with our leaves."""
    leaves = [data[i : i + LEAF] for i in range(0, len(data), LEAF)]

    def tree(part: list[bytes]) -> bytes:
        if len(part) == 1:
            return sha256(b"\0" + part[0]).digest()
        split = 1
        while split * 2 < len(part):
            split *= 2
        return sha256(b"\1" + tree(part[:split]) + tree(part[split:])).digest()

    return tree(leaves)


@given(lengths, st.lists(st.integers(0, 3 * LEAF), max_size=30))
def test_streaming_gives_the_root_by_definition(length: int, steps: list[int]) -> None:
    data = PIECE[:length]
    assert merkle_root(data) == by_definition(data)
    builder, at = MerkleBuilder(), 0
    for step in steps:
        builder.update(data[at : at + step])
        at += step
        if min(at, length):
            assert builder.root() == by_definition(data[:at])
    builder.update(memoryview(data)[at:])
    assert (builder.root(), builder.length) == (by_definition(data), length)


@given(lengths, st.data())
def test_every_proof_verifies_and_no_altered_one_does(length: int, data: st.DataObject) -> None:
    piece = PIECE[:length]
    builder = MerkleBuilder(keep=True)
    builder.update(piece)
    root, leaves = builder.root(), builder.leaf_hashes()
    index = data.draw(st.integers(0, len(leaves) - 1))
    leaf, path = piece[index * LEAF : (index + 1) * LEAF], merkle_proof(leaves, index)
    assert verify_proof(root, length, index, leaf, path)
    at = data.draw(st.integers(0, len(leaf) - 1))
    assert not verify_proof(root, length, index, leaf[:at] + bytes([leaf[at] ^ 1]) + leaf[at + 1 :], path)
    assert not verify_proof(root, length, index, leaf[:-1], path)
    assert not verify_proof(root, length, index, leaf, [*path, bytes(32)])
    assert not verify_proof(bytes(32), length, index, leaf, path)
    if path:
        assert not verify_proof(root, length, index, leaf, path[:-1])
        assert not verify_proof(root, length, index, leaf, [*path[:-1], bytes(32)])
        assert not verify_proof(root, length, index ^ 1, leaf, path)


def test_the_last_leafs_true_length_is_bound() -> None:
    assert merkle_root(PIECE[: LEAF + 5]) != merkle_root(PIECE[: LEAF + 5] + b"\0")
    assert not verify_proof(merkle_root(b"ab"), 3, 0, b"ab", [])
    assert verify_proof(merkle_root(b"ab"), 2, 0, b"ab", [])


def test_a_node_does_not_pass_for_a_leaf() -> None:
    builder = MerkleBuilder(keep=True)
    builder.update(PIECE[: 2 * LEAF])
    assert not verify_proof(builder.root(), 64, 0, b"".join(builder.leaf_hashes()), [])


@pytest.mark.parametrize(("length", "index"), [(0, 0), (-5, 0), (10, 1), (10, -1)])
def test_proofs_of_leaves_that_are_not_there_fail(length: int, index: int) -> None:
    assert not verify_proof(merkle_root(b"0123456789"), length, index, b"0123456789", [])


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        merkle_root(b"")
    with pytest.raises(ValueError, match="keeps no"):
        MerkleBuilder().leaf_hashes()
    with pytest.raises(IndexError):
        merkle_proof([bytes(32)], 1)
