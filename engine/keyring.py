"""Keys above the content key: root → bucket keys, the key-check value, rotation of the root.

A bucket's key is wrapped by the root and kept in a row; content keys are wrapped under the bucket key on each
reference (`erasure.keys`). A rotation wraps every bucket key by both roots, then changes over in one transaction, then
drops the old wraps; killed anywhere, the catalog opens with the root that is in force and the rotation can be run
again.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec.structs import replace

from catalog.interface import Catalog, Reader, Transaction
from core.crashpoints import reach
from core.errors import StartRefused
from engine.errors import EngineError, RootKeyRotated
from engine.layout_data import BUCKET_KEY, ID, ROOT, bucket_key_key, prefix_end
from engine.ports import KeyWrapper
from engine.records_data import BUCKET_KEY_ROW, ROOT_ROW, BucketKeyRow, RootRow
from erasure import keys
from erasure.errors import WrongKey

ROOT_LENGTH = 32
_CHECK = b"atoll/root-check"
_CHECK_CONTEXT = b"atoll/root-check/1"
_NONCE_LENGTH = 12
_VERSION_LENGTH = 4
_OPENED = 16_384  # content keys and body keys kept at hand: deriving one costs more than reading a small object

_body_key = lru_cache(_OPENED)(keys.body_key)
_BATCH = 500


class WrongRootKey(StartRefused):
    """The root key is not the one that this catalog was made with."""


class KeyUnavailable(EngineError):
    """A bucket's key is gone (the bucket was deleted), or a wrapped key does not open."""


class LocalKeyWrapper:
    """A `KeyWrapper` over 32 bytes that this process holds."""

    def __init__(self, root: bytes) -> None:
        if len(root) != ROOT_LENGTH:
            raise StartRefused(f"a root key has {ROOT_LENGTH} bytes, this one has {len(root)}")
        self._aead = AESGCM(_derive(root, b"atoll/root/wrap/1"))
        self._key_id = hashlib.sha256(_derive(root, b"atoll/root/id/1")).hexdigest()[:16]
        self._root = root

    @classmethod
    def from_file(cls, path: Path) -> LocalKeyWrapper:
        """Read a root key: 32 raw bytes, or 64 hex digits with optional white space. Raises StartRefused."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StartRefused(f"the root key file {path} can't be read: {error.strerror}") from None
        if len(data) != ROOT_LENGTH:
            try:
                data = bytes.fromhex(data.decode("ascii"))
            except ValueError:
                raise StartRefused(f"{path} holds neither 32 bytes nor 64 hex digits") from None
        return cls(data)

    @property
    def key_id(self) -> str:
        return self._key_id

    def derive(self, purpose: bytes) -> bytes:
        """A 32-byte key for another purpose (gateway identity, node markers), fixed by the root."""
        return _derive(self._root, b"atoll/root/" + purpose)

    def wrap(self, key: bytes, context: bytes) -> bytes:
        nonce = keys.new_key()[:_NONCE_LENGTH]
        return nonce + self._aead.encrypt(nonce, key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        try:
            return self._aead.decrypt(wrapped[:_NONCE_LENGTH], wrapped[_NONCE_LENGTH:], context)
        except InvalidTag:
            raise WrongRootKey("the root key does not open what it should have wrapped") from None


def _derive(root: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(root)


@dataclass(frozen=True, slots=True)
class NewBucketKey:
    """A bucket key made for a bucket that is about to be created."""

    bucket_id: bytes
    version: int
    row: BucketKeyRow
    key: bytes


class ManifestKeys(NamedTuple):
    """A manifest's content key, and the key of the body that has the manifest's id: its own where it is one body."""

    content: bytes
    body: bytes


def _context(bucket_id: bytes, version: int) -> bytes:
    return b"atoll/bucket-key/1" + bucket_id + version.to_bytes(_VERSION_LENGTH, "big")


class Keyring:
    """The deployment's keys. Holds unwrapped bucket keys in memory; never prints any."""

    def __init__(self, catalog: Catalog, wrapper: KeyWrapper) -> None:
        self._catalog = catalog
        self._wrapper = wrapper
        self._next: KeyWrapper | None = None
        self._keys: dict[tuple[bytes, int], bytes] = {}
        # Unwrapping costs more than reading a small object: what was opened lately is kept, by all that it is bound to.
        self._opened: dict[tuple[bytes, bytes, int, bytes], ManifestKeys] = {}
        self._current: dict[bytes, int] = {}

    @classmethod
    async def open(cls, catalog: Catalog, wrapper: KeyWrapper) -> Keyring:
        """Check the root key against the catalog; the first start writes the check value. Raises WrongRootKey."""

        async def check(txn: Transaction) -> RootRow:
            data = await txn.get(ROOT)
            if data is not None:
                return ROOT_ROW.decode(data)
            row = RootRow(key_id=wrapper.key_id, check=wrapper.wrap(_CHECK, _CHECK_CONTEXT))
            txn.put(ROOT, ROOT_ROW.encode(row))
            return row

        row = await catalog.transact(check)
        if row.key_id != wrapper.key_id:
            raise WrongRootKey(f"this catalog needs the root key {row.key_id}, the one given is {wrapper.key_id}")
        if not hmac.compare_digest(wrapper.unwrap(row.check, _CHECK_CONTEXT), _CHECK):
            raise WrongRootKey("the root key does not open the check value")
        return cls(catalog, wrapper)

    def expect(self, following: KeyWrapper) -> None:
        """Another process is about to put this root key in force: open, and wrap for, either from now on."""
        if following.key_id != self._wrapper.key_id:
            self._next = following

    @property
    def root_key_id(self) -> str:
        """The public fingerprint of the root in force."""
        return self._wrapper.key_id

    def derive(self, purpose: bytes) -> bytes:
        """A 32-byte key for another purpose, fixed by the root in force."""
        return self._wrapper.derive(purpose)

    # Bucket keys

    def new_bucket_key(self, bucket_id: bytes, version: int = 1) -> NewBucketKey:
        """Make a key, before the transaction that creates the bucket."""
        key = keys.new_key()
        return NewBucketKey(bucket_id, version, self._wrap(bucket_id, version, key), key)

    def _wrap(self, bucket_id: bytes, version: int, key: bytes) -> BucketKeyRow:
        context = _context(bucket_id, version)
        wrappers = [self._wrapper] if self._next is None else [self._wrapper, self._next]
        return BucketKeyRow(wraps=tuple((wrapper.key_id, wrapper.wrap(key, context)) for wrapper in wrappers))

    async def put_bucket_key(self, txn: Transaction, new: NewBucketKey) -> None:
        """Store it with the bucket. Raises RootKeyRotated if the root changed since it was made: the client retries."""
        root = await txn.get(ROOT)
        if root is None or ROOT_ROW.decode(root).key_id not in [key_id for key_id, _ in new.row.wraps]:
            raise RootKeyRotated("the root key was rotated meanwhile")
        txn.put(bucket_key_key(new.bucket_id, new.version), BUCKET_KEY_ROW.encode(new.row))

    async def delete_bucket_keys(self, txn: Transaction, bucket_id: bytes) -> None:
        """Remove a bucket's keys with the bucket: what was wrapped under them is unreadable from then on."""
        prefix = BUCKET_KEY + bucket_id
        for key, _ in await txn.scan(prefix, prefix_end(prefix), limit=10_000, keys_only=True):
            txn.delete(key)

    async def _load(self, bucket_id: bytes) -> None:
        prefix = BUCKET_KEY + bucket_id

        async def scan(reader: Reader) -> list[tuple[bytes, bytes]]:
            return await reader.scan(prefix, prefix_end(prefix), limit=10_000)

        rows = await self._catalog.read(scan)
        if not rows:
            raise KeyUnavailable("the bucket has no key")
        for key, data in rows:
            version = int.from_bytes(key[len(prefix) :], "big")
            self._keys[bucket_id, version] = self._unwrap(bucket_id, version, BUCKET_KEY_ROW.decode(data))
            self._current[bucket_id] = version

    def _unwrap(self, bucket_id: bytes, version: int, row: BucketKeyRow) -> bytes:
        for wrapper in (self._wrapper, self._next):
            for key_id, wrapped in row.wraps:
                if wrapper is not None and wrapper.key_id == key_id:
                    return wrapper.unwrap(wrapped, _context(bucket_id, version))
        raise RootKeyRotated("a bucket key is wrapped by another root key")

    def forget(self, bucket_id: bytes) -> None:
        """Drop a deleted bucket's keys from memory."""
        if self._current.pop(bucket_id, None) is not None:
            for pair in [pair for pair in self._keys if pair[0] == bucket_id]:
                del self._keys[pair]
        for bound in [bound for bound in self._opened if bound[0] == bucket_id]:
            del self._opened[bound]

    # Content and body keys

    @staticmethod
    def new_content_key() -> bytes:
        return keys.new_key()

    @staticmethod
    def body_key(content_key: bytes, body_id: bytes) -> bytes:
        return _body_key(content_key, body_id)

    @staticmethod
    def wrap_body_key(content_key: bytes, body_id: bytes, key: bytes) -> bytes:
        """The key of a body taken from another manifest, under the new manifest's content key."""
        return keys.wrap_body_key(content_key, key, body_id=body_id)

    @staticmethod
    def unwrap_body_key(content_key: bytes, body_id: bytes, wrapped: bytes) -> bytes:
        """Raises KeyUnavailable."""
        try:
            return keys.unwrap_body_key(content_key, wrapped, body_id=body_id)
        except WrongKey as error:
            raise KeyUnavailable(str(error)) from None

    async def wrap_content_key(self, bucket_id: bytes, manifest_id: bytes, length: int, content_key: bytes) -> bytes:
        """A content key as it is kept on one reference: bucket key version u32 ‖ erasure.keys.wrap_content_key."""
        if bucket_id not in self._current:
            await self._load(bucket_id)
        return self.wrap_now(bucket_id, manifest_id, length, content_key)

    def wrap_now(self, bucket_id: bytes, manifest_id: bytes, length: int, content_key: bytes) -> bytes:
        """The same for a warm bucket. Raises KeyError for a cold one."""
        version = self._current[bucket_id]
        wrapped = keys.wrap_content_key(
            self._keys[bucket_id, version],
            content_key,
            bucket_id=bucket_id,
            manifest_id=manifest_id,
            plain_length=length,
        )
        return version.to_bytes(_VERSION_LENGTH, "big") + wrapped

    async def unwrap_content_key(self, bucket_id: bytes, manifest_id: bytes, length: int, wrapped: bytes) -> bytes:
        """Raises KeyUnavailable."""
        return (await self.open_keys(bucket_id, manifest_id, length, wrapped)).content

    async def open_keys(self, bucket_id: bytes, manifest_id: bytes, length: int, wrapped: bytes) -> ManifestKeys:
        """A manifest's keys, by the wrapped content key. Raises KeyUnavailable."""
        if (bucket_id, int.from_bytes(wrapped[:_VERSION_LENGTH], "big")) not in self._keys:
            await self._load(bucket_id)
        try:
            return self.open_keys_now(bucket_id, manifest_id, length, wrapped)
        except KeyError:
            raise KeyUnavailable("the bucket has no key of this version") from None

    def open_keys_now(self, bucket_id: bytes, manifest_id: bytes, length: int, wrapped: bytes) -> ManifestKeys:
        """The same for a warm bucket. Raises KeyError for a cold one, KeyUnavailable."""
        bound = (bucket_id, manifest_id, length, wrapped)
        opened = self._opened.get(bound)
        if opened is not None:
            return opened
        key = self._keys[bucket_id, int.from_bytes(wrapped[:_VERSION_LENGTH], "big")]
        try:
            content_key = keys.unwrap_content_key(
                key, wrapped[_VERSION_LENGTH:], bucket_id=bucket_id, manifest_id=manifest_id, plain_length=length
            )
        except WrongKey as error:
            raise KeyUnavailable(str(error)) from None
        if len(self._opened) >= _OPENED:
            del self._opened[next(iter(self._opened))]
        opened = self._opened[bound] = ManifestKeys(content_key, keys.body_key(content_key, manifest_id))
        return opened

    # Rotation

    async def rotate(self, new: KeyWrapper, progress: Callable[[int], None] | None = None) -> int:
        """Put another root key in force; returns how many bucket keys were wrapped anew.

        Crash points `rotation-started`, `rotation-wrapped`, `rotation-switched`. Until the switch the old root opens
        the catalog, from then on the new one; after a crash run it again with whichever is not in force as `new`
        (before the switch), or call `finish_rotation` (after it).
        """
        if new.key_id == self._wrapper.key_id:
            return 0
        check = new.wrap(_CHECK, _CHECK_CONTEXT)

        async def begin(txn: Transaction) -> None:
            row = await self._root_row(txn)
            txn.put(ROOT, ROOT_ROW.encode(replace(row, next_key_id=new.key_id, next_check=check)))

        await self._catalog.transact(begin)
        self._next = new
        reach("rotation-started")
        try:
            wrapped = await self._wrap_all(new, progress)
            reach("rotation-wrapped")
            while not await self._catalog.transact(self._switch_to(new)):
                wrapped += await self._wrap_all(new, progress)
            self._wrapper = new
        finally:
            self._next = None
        reach("rotation-switched")
        await self.finish_rotation()
        return wrapped

    async def _root_row(self, reader: Reader) -> RootRow:
        data = await reader.get(ROOT)
        if data is None:
            raise WrongRootKey("the catalog lost its key-check value")
        return ROOT_ROW.decode(data)

    def _switch_to(self, new: KeyWrapper) -> Callable[[Transaction], Awaitable[bool]]:
        """Change over, unless a bucket was made meanwhile whose key the new root does not wrap yet."""

        async def switch(txn: Transaction) -> bool:
            after = BUCKET_KEY
            while rows := await txn.scan(after, prefix_end(BUCKET_KEY), limit=_BATCH):
                after = rows[-1][0] + b"\0"
                for _, data in rows:
                    if new.key_id not in [key_id for key_id, _ in BUCKET_KEY_ROW.decode(data).wraps]:
                        return False
            row = await self._root_row(txn)
            if row.next_key_id != new.key_id:
                return False
            txn.put(
                ROOT,
                ROOT_ROW.encode(
                    replace(row, key_id=row.next_key_id, check=row.next_check, next_key_id="", next_check=b"")
                ),
            )
            return True

        return switch

    async def _wrap_all(self, new: KeyWrapper, progress: Callable[[int], None] | None) -> int:
        """Add the new root's wrap wherever it is missing."""

        def add(key: bytes, row: BucketKeyRow) -> BucketKeyRow:
            if new.key_id in [key_id for key_id, _ in row.wraps]:
                return row
            bucket_id = key[len(BUCKET_KEY) : len(BUCKET_KEY) + ID]
            version = int.from_bytes(key[len(BUCKET_KEY) + ID :], "big")
            plain = self._unwrap(bucket_id, version, row)
            return replace(row, wraps=(*row.wraps, (new.key_id, new.wrap(plain, _context(bucket_id, version)))))

        return await self._change_all(add, progress)

    async def finish_rotation(self, progress: Callable[[int], None] | None = None) -> int:
        """Drop what other roots than the one in force wrapped; returns how many rows had such."""

        def drop(_: bytes, row: BucketKeyRow) -> BucketKeyRow:
            kept = tuple(pair for pair in row.wraps if pair[0] == self._wrapper.key_id)
            return replace(row, wraps=kept) if kept and kept != row.wraps else row

        return await self._change_all(drop, progress)

    async def _change_all(
        self, change: Callable[[bytes, BucketKeyRow], BucketKeyRow], progress: Callable[[int], None] | None
    ) -> int:
        after, end, changed = BUCKET_KEY, prefix_end(BUCKET_KEY), 0

        async def batch(txn: Transaction) -> tuple[bytes, int]:
            rows = await txn.scan(after, end, limit=_BATCH)
            count = 0
            for key, data in rows:
                row = BUCKET_KEY_ROW.decode(data)
                new_row = change(key, row)
                if new_row is not row:
                    txn.put(key, BUCKET_KEY_ROW.encode(new_row))
                    count += 1
            return (rows[-1][0] + b"\0" if rows else b""), count

        while True:
            next_key, count = await self._catalog.transact(batch)
            changed += count
            if not next_key:
                return changed
            after = next_key
            if progress is not None:
                progress(changed)
            reach("rotation-batch")
