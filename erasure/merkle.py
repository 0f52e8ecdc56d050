"""Merkle trees over a piece, for proofs that a contract can check. Spec: docs/formats/object.md, "Merkle tree".

Leaves are 1 KiB runs of the piece, footer included; only the last may be shorter, and its true length is hashed. A
leaf's hash is SHA-256(0x00 ‖ bytes), a node's SHA-256(0x01 ‖ left ‖ right); the left subtree is the largest full one.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from core.buffers import Buffer

LEAF = 1024

_NODE_PREFIX = b"\x01"
#: Copied for each leaf: hashing a prefix and a view in two steps costs more.
_LEAF_SEED = sha256(b"\x00")


def leaf_hash(data: Buffer) -> bytes:
    """The hash of one leaf."""
    seeded = _LEAF_SEED.copy()
    seeded.update(data)
    return seeded.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(_NODE_PREFIX + left + right).digest()


def leaf_count(length: int) -> int:
    """Leaves of a piece of `length` bytes. Raises ValueError for an empty one."""
    if length < 1:
        raise ValueError("an empty piece has no tree")
    return -(-length // LEAF)


class MerkleBuilder:
    """Hashes a piece as it streams by. Holds one hash a level and less than one leaf of bytes; with `keep`, all leaf
    hashes too (32 bytes for each KiB), which proofs are made from."""

    def __init__(self, *, keep: bool = False) -> None:
        self.length = 0
        self._leaves: list[bytes] = []
        self._keep = keep
        self._count = 0
        self._pending = bytearray()
        self._full: list[bytes] = []  # roots of full subtrees, largest first: one for each set bit of the leaf count

    def update(self, data: Buffer) -> None:
        """The next bytes of the piece, any number of them."""
        view = memoryview(data).cast("B")
        self.length += view.nbytes
        if self._pending:
            take = min(LEAF - len(self._pending), view.nbytes)
            self._pending += view[:take]
            view = view[take:]
            if len(self._pending) < LEAF:
                return
            self._push(leaf_hash(self._pending))
            self._pending.clear()
        whole = view.nbytes - view.nbytes % LEAF
        for start in range(0, whole, LEAF):
            self._push(leaf_hash(view[start : start + LEAF]))
        self._pending += view[whole:]

    def root(self) -> bytes:
        """The root of what came so far; the builder goes on unchanged. Raises ValueError for an empty piece."""
        leaf_count(self.length)
        hashes = [*self._full, leaf_hash(self._pending)] if self._pending else self._full
        digest = hashes[-1]
        for left in reversed(hashes[:-1]):
            digest = node_hash(left, digest)
        return digest

    def leaf_hashes(self) -> list[bytes]:
        """All leaf hashes of what came so far, for `merkle_proof`. Raises ValueError unless made with `keep`."""
        if not self._keep:
            raise ValueError("this builder keeps no leaf hashes")
        return [*self._leaves, leaf_hash(self._pending)] if self._pending else list(self._leaves)

    def _push(self, digest: bytes) -> None:
        if self._keep:
            self._leaves.append(digest)
        count = self._count
        while count & 1:
            digest = node_hash(self._full.pop(), digest)
            count >>= 1
        self._full.append(digest)
        self._count += 1


def merkle_root(piece: Buffer) -> bytes:
    """The root of a whole piece."""
    builder = MerkleBuilder()
    builder.update(piece)
    return builder.root()


def merkle_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes beside the path from leaf `index` to the root, lowest first. Raises IndexError.

    `leaves` are all leaf hashes of the piece (`MerkleBuilder.leaf_hashes`).
    """
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of {len(leaves)}")
    path: list[bytes] = []
    level = list(leaves)
    while len(level) > 1:
        # An odd node at the end of a level has no sibling and rises as it is: the same tree as splitting at the
        # largest power of two.
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
        index >>= 1
    return path


def verify_proof(root: bytes, piece_length: int, index: int, leaf: Buffer, path: Sequence[bytes]) -> bool:
    """Whether `leaf` is leaf `index` of the piece of `piece_length` bytes whose root is `root`."""
    if piece_length < 1:
        return False
    count = leaf_count(piece_length)
    if not 0 <= index < count:
        return False
    if memoryview(leaf).nbytes != min(LEAF, piece_length - index * LEAF):
        return False
    digest, hashes = leaf_hash(leaf), list(reversed(path))
    while count > 1:
        if index ^ 1 < count:
            if not hashes or len(hashes[-1]) != len(root):
                return False
            sibling = hashes.pop()
            digest = node_hash(sibling, digest) if index & 1 else node_hash(digest, sibling)
        index, count = index >> 1, (count + 1) >> 1
    return not hashes and digest == root
