"""CompleteMultipartUpload: parts become a manifest, and the manifest a version.

One transaction reads the upload's part rows and writes the manifest's chunks: for 10,000 parts about 10,000 rows read
and 80 written. The bodies' references stay as they are (engine/uploads.py). The upload's row remembers the answer for a
day, so that a client whose connection was cut may ask again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import msgspec
from blake3 import blake3

from catalog.interface import Reader, Transaction
from catalog.keys import prefix_end
from engine import manifests, references
from engine.context import Context
from engine.errors import InvalidPart, InvalidPartOrder, NoSuchBucket, NoSuchUpload, PartTooSmall
from engine.layout import PART, UPLOAD, spread
from engine.objects import Commit
from engine.ports import Admission
from engine.records import (
    PART_ROW,
    UPLOAD_ROW,
    PartRow,
    UploadRow,
    Version,
    pack_checksum_type,
    pack_etag,
)
from engine.types import Bucket, CompletePart, ObjectInfo, Outcome, Part, WriteCondition
from engine.uploads import content_key_of, end_upload, known_upload, part_value, upload_token
from engine.versions import describe

MAX_PARTS = 10_000

Conclude = Callable[[Sequence[Part]], Outcome]


async def complete_upload(
    context: Context,
    bucket: Bucket,
    key: str,
    upload_id: str,
    parts: Sequence[CompletePart],
    *,
    conclude: Conclude,
    condition: WriteCondition,
    minimum_part: int,
    admit: Admission | None = None,
) -> ObjectInfo:
    token = upload_token(upload_id)
    fingerprint = _fingerprint(parts)

    async def look(reader: Reader) -> bytes | None:
        return await reader.get(UPLOAD + spread(token))

    row = known_upload(bucket, key, await context.catalog.read(look))
    if row.completed is not None:
        return _answer_again(bucket, key, row, fingerprint)
    if not parts or any(one.number >= two.number for one, two in itertools.pairwise(parts)):
        raise InvalidPartOrder("parts must be named in ascending order")
    content_key = await content_key_of(context, bucket, token, row)  # which leaves the bucket's keys in memory
    commit = _CompleteCommit(
        context,
        bucket,
        key,
        token,
        row,
        parts,
        conclude,
        condition,
        max(minimum_part, 1),
        content_key,
        fingerprint,
        admit,
    )
    return await context.catalog.transact(commit)


class _CompleteCommit(Commit):
    """Adds the version after making its manifest from the part rows."""

    def __init__(
        self,
        context: Context,
        bucket: Bucket,
        key: str,
        token: bytes,
        row: UploadRow,
        parts: Sequence[CompletePart],
        conclude: Conclude,
        condition: WriteCondition,
        minimum_part: int,
        content_key: bytes,
        fingerprint: bytes,
        admit: Admission | None,
    ) -> None:
        blank = Version(b"", 0, 0, b"", row.attributes, {}, 0, len(parts), b"", spread(token), b"")
        super().__init__(context, bucket, key, blank, condition, admit=admit)
        self._token = token
        self._parts = parts
        self._conclude = conclude
        self._minimum_part = minimum_part
        self._content_key = content_key
        self._fingerprint = fingerprint

    async def __call__(self, txn: Transaction) -> ObjectInfo:
        context, token, manifest = self._context, self._token, spread(self._token)
        raw = await txn.get(UPLOAD + manifest)
        row = known_upload(self._bucket, self._key, raw)
        if row.completed is not None:
            return _answer_again(self._bucket, self._key, row, self._fingerprint)
        chosen = self._choose(await txn.scan(PART + manifest, prefix_end(PART + manifest), limit=MAX_PARTS + 1))
        outcome = self._conclude([part_value(number, part) for number, part in chosen])
        size = sum(part.size for _, part in chosen)
        try:
            wrapped = context.keyring.wrap_now(self._bucket.id, manifest, size, self._content_key)
        except KeyError:  # they leave memory with their bucket alone
            raise NoSuchBucket("the bucket was deleted") from None
        self._version = msgspec.structs.replace(
            self._version,
            size=size,
            etag=pack_etag(outcome.etag),
            checksums=outcome.checksums,
            checksum_type=pack_checksum_type(outcome.checksum_type),
            wrapped=wrapped,
        )
        info = await super().__call__(txn)
        manifests.write(txn, manifest, chosen)
        end_upload(txn, token, row)
        included = 0
        for number, _ in chosen:
            included |= 1 << number
        ended = msgspec.structs.replace(
            row,
            completed=self.version,
            included=included.to_bytes(included.bit_length() // 8 + 1, "little"),
            fingerprint=self._fingerprint,
        )
        txn.put(UPLOAD + manifest, UPLOAD_ROW.encode(ended))
        return info

    async def attach(self, txn: Transaction, version: Version) -> None:
        references.create(txn, version.manifest, version.token)

    def _choose(self, rows: Sequence[tuple[bytes, bytes]]) -> list[tuple[int, PartRow]]:
        """The parts that the client named, checked against the stored ones."""
        stored = {int.from_bytes(place[-2:], "big"): raw for place, raw in rows}
        chosen: list[tuple[int, PartRow]] = []
        for named in self._parts:
            raw = stored.get(named.number)
            if raw is None:
                raise InvalidPart(named.number)
            part = PART_ROW.decode(raw)
            if pack_etag(named.etag) != part.etag:
                raise InvalidPart(named.number)
            for algorithm, value in named.checksums.items():
                if part.checksums.get(algorithm) != value:
                    raise InvalidPart(named.number)
            chosen.append((named.number, part))
        for number, part in chosen[:-1]:
            if part.size < self._minimum_part:
                etag = part_value(number, part).etag
                raise PartTooSmall(number, part.size, self._minimum_part, etag)
        return chosen


def _answer_again(bucket: Bucket, key: str, row: UploadRow, fingerprint: bytes) -> ObjectInfo:
    """What the same completion was answered the first time. Raises NoSuchUpload for another one."""
    if row.completed is None or row.fingerprint != fingerprint:
        raise NoSuchUpload("the upload was completed")
    return describe(bucket, key, row.completed, latest=True)


def _fingerprint(parts: Sequence[CompletePart]) -> bytes:
    return blake3(b"\n".join(b"%d %s" % (part.number, part.etag.encode()) for part in parts)).digest(16)


def includes(row: UploadRow, number: int) -> bool:
    """Whether a part went into the completed object."""
    byte = number // 8
    return byte < len(row.included) and bool(row.included[byte] >> number % 8 & 1)
