"""CopyObject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.open import OpenObject
from engine.types import Bucket, ChecksumType, ObjectAttributes, Outcome
from gateway.s3.access import allows, denied, require_write, versioned, writer
from gateway.s3.checksums import ALGORITHMS, output_members
from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.errors import S3Error
from gateway.s3.rules.acl import acl_from_headers
from gateway.s3.rules.attributes import attributes_in, storage_class
from gateway.s3.rules.conditions import write_condition
from gateway.s3.rules.copying import CopySource, digest_range, open_source, parse_copy_source
from gateway.s3.rules.tags import Tags, tags_from_header
from gateway.s3.rules.versions import printed_version, written_version

_REDIRECT = "x-amz-website-redirect-location"
#: A change of any of these makes a copy of an object onto itself worth doing.
_SELF_COPY_CHANGES = ("StorageClass", "WebsiteRedirectLocation", "ServerSideEncryption")


def _directive(params: Mapping[str, Any], member: str, header: str) -> str:
    value = str(params.get(member) or "COPY")
    if value not in ("COPY", "REPLACE"):
        raise S3Error(
            "InvalidArgument",
            f"Unknown {header.removeprefix('x-amz-').replace('-', ' ')}.",
            fields={"ArgumentName": header, "ArgumentValue": value},
        )
    return value


def _check_self_copy(request: S3Request, source: CopySource, metadata: str) -> None:
    if source.bucket != request.bucket or source.key != request.key or source.version_id:
        return
    if metadata == "COPY" and not any(request.params.get(member) for member in _SELF_COPY_CHANGES):
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing the "
            "object's metadata, storage class, website redirect location or encryption attributes.",
        )


async def copy_object(services: Services, request: S3Request) -> S3Response:
    params = request.params
    source = parse_copy_source(params["CopySource"])
    metadata = _directive(params, "MetadataDirective", "x-amz-metadata-directive")
    tagging = _directive(params, "TaggingDirective", "x-amz-tagging-directive")
    actions = ["s3:PutObject"]
    if params.get("ACL"):
        actions.append("s3:PutObjectAcl")
    if tagging == "REPLACE" and params.get("Tagging"):
        actions.append("s3:PutObjectTagging")
    bucket = await require_write(services, request, *actions)
    _check_self_copy(request, source, metadata)
    condition = write_condition(params)
    source_bucket, opened = await open_source(services, request, source)
    async with opened:
        attributes = _attributes(services, request, bucket, opened, metadata)
        tags = (
            tags_from_header(params.get("Tagging"))
            if tagging == "REPLACE"
            else await _source_tags(services, request, source_bucket, source, opened)
        )
        info = await services.store.copy_object(
            opened,
            bucket,
            request.key,
            attributes=_with_tags(attributes, tags),
            condition=condition,
            outcome=await _changed_checksum(services, params, opened),
        )
    result: dict[str, Any] = {"ETag": info.etag, "LastModified": info.modified_us}
    result.update(output_members(info.checksums, info.checksum_type))
    return S3Response(
        {
            "CopyObjectResult": result,
            "VersionId": written_version(info.version_id),
            "CopySourceVersionId": printed_version(source_bucket, opened.info.version_id),
            "ServerSideEncryption": "AES256",
        }
    )


def _attributes(
    services: Services, request: S3Request, bucket: Bucket, opened: OpenObject, directive: str
) -> ObjectAttributes:
    """What the copy carries; ACL and storage class are never the source's."""
    params, owner = request.params, writer(request, bucket)
    if directive == "REPLACE":
        return attributes_in({**params, "Tagging": None}, owner, services.settings.max_metadata_size)
    kept = opened.info.attributes
    headers = {name: value for name, value in kept.headers.items() if name != _REDIRECT}
    if redirect := params.get("WebsiteRedirectLocation"):
        headers[_REDIRECT] = str(redirect)
    return ObjectAttributes(
        owner=owner,
        acl=acl_from_headers(params) or "private",
        storage_class=storage_class(params),
        headers=headers,
        metadata=kept.metadata,
    )


def _with_tags(attributes: ObjectAttributes, tags: Tags) -> ObjectAttributes:
    return ObjectAttributes(
        attributes.owner, attributes.acl, attributes.storage_class, attributes.headers, attributes.metadata, tags
    )


async def _source_tags(
    services: Services, request: S3Request, bucket: Bucket, source: CopySource, opened: OpenObject
) -> Tags:
    """The source's tags, which need a permission of their own. Raises S3Error AccessDenied."""
    tags = opened.info.attributes.tags
    if tags and not await allows(
        services,
        request,
        versioned("s3:GetObjectTagging", source.version_id),
        bucket,
        key=source.key,
        version_id=source.version_id,
        object_owner=opened.info.attributes.owner,
        object_acl=opened.info.attributes.acl,
    ):
        raise denied()
    return tags


async def _changed_checksum(services: Services, params: Mapping[str, Any], opened: OpenObject) -> Outcome | None:
    """The outcome under the checksum algorithm that the client asks for; None where the source has it already, and no
    byte needs to be read."""
    algorithm, info = str(params.get("ChecksumAlgorithm") or "").upper(), opened.info
    if not algorithm or algorithm in info.checksums:
        return None
    if algorithm not in ALGORITHMS:
        raise S3Error("InvalidRequest", "Checksum algorithm provided is unsupported.")
    if info.size > services.settings.max_object_size:
        raise S3Error(
            "InvalidRequest",
            "The specified copy source is larger than the maximum allowable size for a copy source: "
            f"{services.settings.max_object_size}",
        )
    digested = await digest_range(opened, 0, info.size, algorithm)
    return Outcome(info.etag, digested.checksums, ChecksumType.FULL_OBJECT)
