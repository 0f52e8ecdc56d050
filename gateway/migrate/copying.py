"""Copies one object from the source into a bucket here: its bytes, content headers, user metadata and tags.

What came as one PUT comes as one run of bytes, what came in parts comes in the same parts, several at once, so that
its ETag stays the same. Memory is a few stripes for each run under way, and `streams` bounds those.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

from engine.errors import NoSuchUpload
from engine.store import ObjectStore
from engine.types import Bucket, CompletePart, ObjectAttributes, Part
from gateway.migrate.claims import admission
from gateway.migrate.download import Download
from gateway.migrate.errors import SourceChanged, SourceWrong
from gateway.migrate.pace import Bandwidth, patiently
from gateway.migrate.proof import PartsProof, WholeProof, likely_parts, part_count
from gateway.migrate.source import Found, SourceClient
from gateway.s3.errors import S3Error
from gateway.s3.rules.attributes import STORAGE_CLASSES, content_headers, metadata_in

_TRIES = 3  # of an object that another one replaces while it is copied, or whose bytes are not what they should be
_METADATA = "x-amz-meta-"
_METADATA_LIMIT = 2048
_HEADERS = {
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "content-type": "ContentType",
    "expires": "Expires",
    "x-amz-website-redirect-location": "WebsiteRedirectLocation",
}


@dataclass(frozen=True, slots=True)
class Copied:
    """`verified`: an ETag or a checksum of the source told that the bytes are right; their number always was."""

    size: int
    verified: bool


def initiator_of(job_id: bytes) -> str:
    """Who began the multipart uploads of a migration."""
    return f"migration-{job_id.hex()}"


class Copier:
    """Copies objects of one job, as many at once as there are callers."""

    def __init__(
        self,
        store: ObjectStore,
        client: SourceClient,
        job_id: bytes,
        *,
        streams: int,
        bandwidth: Bandwidth,
        patience: float,
        md5_etags: bool,
    ) -> None:
        self._store = store
        self._client = client
        self._job_id = job_id
        self._width = streams
        self._streams = asyncio.Semaphore(streams)
        self._bandwidth = bandwidth
        self._patience = patience
        self._md5_etags = md5_etags

    async def copy(self, bucket: Bucket, key: str, etag: str = "") -> Copied:
        """Copy what the source has under the key, at best the object of this ETag.

        Raises Kept, NotMarked, the errors of the source and of the store; SourceWrong for what can't be stored here.
        """
        for tries in itertools.count(1):
            try:
                return await self._copy(bucket, key, etag)
            except SourceChanged:
                if tries == _TRIES:
                    raise
                etag = ""
            except SourceWrong:
                if tries == _TRIES:
                    raise
            except S3Error as error:
                raise SourceWrong(f"it can't be stored here: {error.code} {error.message}") from error
        raise AssertionError

    async def _copy(self, bucket: Bucket, key: str, etag: str) -> Copied:
        if part_count(etag):
            return await self._in_parts(bucket, key, etag)
        async with self._streams, self._download(key, etag=etag) as download:
            found = await download.begin()
            if not part_count(found.etag) or found.size == 0:
                return await self._whole(bucket, key, download, found)
        return await self._in_parts(bucket, key, found.etag)

    async def _whole(self, bucket: Bucket, key: str, download: Download, found: Found) -> Copied:
        proof = WholeProof(found, md5_etags=self._md5_etags)
        await self._store.put_object(
            bucket,
            key,
            download,
            attributes=await self.attributes(bucket, key, found),
            digests=proof.digests,
            finish=proof.finish,
            size_hint=found.size,
            admit=admission(self._job_id, found),
        )
        return Copied(found.size, proof.verified)

    async def _in_parts(self, bucket: Bucket, key: str, etag: str) -> Copied:
        found = await patiently(lambda: self._client.head(key), self._patience)
        if found.etag != etag:
            raise SourceChanged("another object is there by now")
        if found.size == 0:
            async with self._streams, self._download(key, etag=etag) as download:
                return await self._whole(bucket, key, download, await download.begin())
        count = part_count(etag)
        first = await patiently(lambda: self._client.head(key, part=1), self._patience)
        exact = first.part_count == count or count == 1
        ranges: list[tuple[int, int] | None]
        ranges = [None] * count if exact and count > 1 else [*likely_parts(found.size, count)]
        proof = PartsProof(found, exact=exact, md5_etags=self._md5_etags)
        upload = await self._store.create_upload(
            bucket,
            key,
            attributes=await self.attributes(bucket, key, found),
            initiator=initiator_of(self._job_id),
        )
        try:
            parts = await self._parts(bucket, key, etag, upload.upload_id, ranges, proof)
            await self._store.complete_upload(
                bucket,
                key,
                upload.upload_id,
                [CompletePart(part.number, part.etag) for part in parts],
                conclude=proof.conclude,
                minimum_part=1,
                admit=admission(self._job_id, found),
            )
        except BaseException:
            await asyncio.shield(self._abort(bucket, key, upload.upload_id))
            raise
        return Copied(found.size, proof.verified)

    async def _parts(
        self,
        bucket: Bucket,
        key: str,
        etag: str,
        upload_id: str,
        ranges: list[tuple[int, int] | None],
        proof: PartsProof,
    ) -> list[Part]:
        """Copy all parts, several at once; by number where a range is None."""
        numbers = iter(range(1, len(ranges) + 1))
        parts: list[Part] = []

        async def run() -> None:
            for number in numbers:
                span = ranges[number - 1]
                offset, length = span or (0, None)
                digests = proof.part()
                async with (
                    self._streams,
                    self._download(
                        key, etag=etag, offset=offset, length=length, part=number if span is None else 0
                    ) as download,
                ):
                    found = await download.begin()
                    part = await self._store.upload_part(
                        bucket,
                        key,
                        upload_id,
                        number,
                        download,
                        digests=digests.digests,
                        finish=digests.finish,
                        size_hint=found.length,
                    )
                if part.size != found.length:
                    raise SourceWrong(f"{part.size} bytes came of {found.length}")
                parts.append(part)

        tasks = [asyncio.create_task(run(), name="copy parts") for _ in range(min(self._width, len(ranges)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return sorted(parts, key=lambda part: part.number)

    async def _abort(self, bucket: Bucket, key: str, upload_id: str) -> None:
        try:
            await self._store.abort_upload(bucket, key, upload_id)
        except NoSuchUpload:
            return

    def _download(self, key: str, *, etag: str, offset: int = 0, length: int | None = None, part: int = 0) -> Download:
        return Download(
            self._client,
            key,
            etag=etag,
            offset=offset,
            length=length,
            part=part,
            patience=self._patience,
            bandwidth=self._bandwidth,
        )

    async def attributes(self, bucket: Bucket, key: str, found: Found) -> ObjectAttributes:
        """What the object will have here beside its bytes. Raises S3Error for what a PUT here would refuse."""
        headers = found.headers
        tags: tuple[tuple[str, str], ...] = ()
        if headers.get("x-amz-tagging-count", "0") != "0":
            tags = await patiently(lambda: self._client.tags(key), self._patience)
        metadata = {name[len(_METADATA) :]: value for name, value in headers.items() if name.startswith(_METADATA)}
        storage_class = headers.get("x-amz-storage-class", "STANDARD")
        return ObjectAttributes(
            owner=bucket.owner,
            storage_class=storage_class if storage_class in STORAGE_CLASSES else "STANDARD",
            headers=content_headers({_HEADERS[name]: value for name, value in headers.items() if name in _HEADERS}),
            metadata=metadata_in({"Metadata": metadata}, _METADATA_LIMIT),
            tags=tags,
        )
