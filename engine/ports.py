"""What the engine needs of rooms that it may not import; wiring provides each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from backends.interface import Backend
from catalog.interface import Reader, Transaction
from core.buffers import Buffer
from engine.types import Bucket, ObjectInfo


@dataclass(frozen=True, slots=True)
class Node:
    """Anything that stores pieces. `id` is 16 bytes and for ever; `domain` is what fails together."""

    id: bytes
    name: str
    domain: str
    backend: Backend


class Placer(Protocol):
    """Chooses nodes for new pieces and finds nodes of old ones."""

    def choose(self, count: int, *, size: int, exclude: Sequence[bytes] = ()) -> list[Node]:
        """Up to `count` distinct nodes that are up and have room for `size` more bytes each, spread over domains as
        widely as possible, best first. Fewer than `count` when there are no more: the caller narrows its scheme."""
        ...

    def node(self, node_id: bytes) -> Node | None:
        """The node with this id, up or down; None if it was never known."""
        ...

    def nodes(self) -> list[Node]: ...

    def is_up(self, node_id: bytes) -> bool: ...

    def node_up(self, node_id: bytes) -> Node | None:
        """The node with this id if it is up."""
        ...

    def observe(self, node_id: bytes, *, ok: bool, seconds: float, error: BaseException | None = None) -> None:
        """Tell what a call to the node came to; feeds latency and health."""
        ...

    def expected_latency(self, node_id: bytes) -> float:
        """Seconds within which 95 % of this node's reads answer: when to hedge."""
        ...


class KeyWrapper(Protocol):
    """Holds the root key (or a remote key service) and wraps the keys right below it."""

    def wrap(self, key: bytes, context: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Raises engine.keyring.WrongRootKey when it does not open."""
        ...

    def derive(self, purpose: bytes) -> bytes:
        """A 32-byte key for another purpose, fixed by the root key."""
        ...

    @property
    def key_id(self) -> str:
        """A public fingerprint of the root key in use."""
        ...


class StripeDigester(Protocol):
    """Watches plaintext while it is written (CIDs while uploading). Called in order, from worker threads."""

    def update(self, data: Buffer, /) -> None: ...


class CommitObserver(Protocol):
    """Sees changes of objects inside the transaction that makes them, so what it writes commits or fails with them.

    Usage, quota, due index, CID index and outbox rows are observers. May raise to refuse (quota): nothing is written.
    Must await nothing but `txn`.
    """

    def heeds(self, bucket: Bucket) -> bool:
        """Whether a new version in this bucket, as it is now, is anything to it: asked in that transaction, which may
        leave out the call of `committed` where it is not."""
        ...

    async def committed(self, txn: Transaction, bucket: Bucket, new: ObjectInfo, replaced: ObjectInfo | None) -> None:
        """A version was created (PUT, Complete, delete marker); `replaced` is a version that it removed, if any."""
        ...

    async def copied(
        self, txn: Transaction, bucket: Bucket, new: ObjectInfo, source: ObjectInfo, replaced: ObjectInfo | None
    ) -> None: ...

    async def removed(self, txn: Transaction, bucket: Bucket, old: ObjectInfo) -> None:
        """A version was removed for good."""
        ...


@runtime_checkable
class AbsenceObserver(Protocol):
    """A commit observer that also wants to know of deletes that found nothing."""

    async def absent(self, txn: Transaction, bucket: Bucket, key: str) -> None:
        """A delete without a version id named a key that has no version, in a bucket without versioning."""
        ...


class BucketQuota(Protocol):
    """Tells how many buckets an owner may own; asked inside the transaction that makes one more."""

    async def most_buckets(self, txn: Reader, owner: str) -> int | None:
        """None for no limit. Must await nothing but `txn`."""
        ...


#: Judges one write in its own transaction, before it takes effect: the bucket, the key's latest version now (a delete
#: marker included, None for none) and the version to be. May write rows of its own room; raising refuses the write.
#: Must await nothing but the transaction.
Admission = Callable[[Transaction, Bucket, ObjectInfo | None, ObjectInfo], Awaitable[None]]
