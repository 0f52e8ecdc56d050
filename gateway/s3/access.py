"""Who may do what: every handler asks here before it acts.

One bucket look-up, one question to the authorizer, S3's answers for a refusal. A caller who may not list a bucket must
not learn which keys it has, so a missing key looks to it like one it may not read.
"""

from __future__ import annotations

from typing import NoReturn

from core.access import AccessContext, Decision, PrincipalKind, Resource
from engine.errors import EngineError, IsDeleteMarker, NoSuchBucket, NoSuchKey, NoSuchVersion
from engine.open import OpenObject
from engine.types import UNCONDITIONAL, Bucket, ObjectInfo, WriteCondition
from engine.versions import is_version_id
from gateway.s3.contract import Arrivals, BucketCheck, Lister, Readable, S3Request, Services
from gateway.s3.errors import S3Error
from gateway.s3.rules.naming import check_key
from gateway.s3.rules.versions import version_headers


def denied() -> S3Error:
    return S3Error("AccessDenied")


def no_such_bucket(name: str) -> S3Error:
    return S3Error("NoSuchBucket", fields={"BucketName": name})


async def allows(
    services: Services,
    request: S3Request,
    action: str,
    bucket: Bucket,
    *,
    key: str = "",
    version_id: str = "",
    object_owner: str = "",
    object_acl: str = "private",
) -> bool:
    """Ask the authorizer about one action on a bucket, or on a key in it."""
    context = AccessContext(
        bucket_owner=bucket.owner,
        bucket_acl=bucket.acl,
        object_owner=object_owner,
        object_acl=object_acl,
        secure=request.secure,
        source_ip=request.source_ip,
    )
    decision = await services.authorizer.authorize(
        request.principal, action, Resource(bucket.name, key, version_id), context
    )
    return decision is Decision.ALLOW


async def require_service(services: Services, request: S3Request, action: str) -> None:
    """Ask about the service itself, or about a bucket that does not exist yet. Raises S3Error AccessDenied."""
    context = AccessContext(secure=request.secure, source_ip=request.source_ip)
    decision = await services.authorizer.authorize(request.principal, action, Resource(request.bucket), context)
    if decision is not Decision.ALLOW:
        raise denied()


async def find_bucket(services: Services, name: str, expected_owner: str | None) -> Bucket:
    """The bucket. Raises S3Error NoSuchBucket, and AccessDenied where its owner is not the expected one."""
    try:
        bucket = await services.store.get_bucket(name)
    except NoSuchBucket:
        raise no_such_bucket(name) from None
    _check_owner(bucket, expected_owner)
    return bucket


def _check_owner(bucket: Bucket, expected: str | None) -> None:
    if expected and bucket.owner != expected:
        raise denied()


async def require_bucket(services: Services, request: S3Request, action: str) -> Bucket:
    """The request's bucket, once `action` on it is allowed. Raises S3Error NoSuchBucket, AccessDenied."""
    bucket = await find_bucket(services, request.bucket, request.params.get("ExpectedBucketOwner"))
    if not await allows(services, request, action, bucket):
        raise denied()
    return bucket


async def require_write(services: Services, request: S3Request, *actions: str) -> Bucket:
    """The request's bucket, once every one of `actions` on a new object of the caller under the request's key is
    allowed. Raises S3Error NoSuchBucket, AccessDenied, KeyTooLongError."""
    bucket = await find_bucket(services, request.bucket, request.params.get("ExpectedBucketOwner"))
    check_key(request.key)
    for action in actions:
        if not await allows(services, request, action, bucket, key=request.key, object_owner=request.principal.id):
            raise denied()
    return bucket


def writer(request: S3Request, bucket: Bucket) -> str:
    """Who owns what the caller writes: the caller, or the bucket's owner when nobody signed."""
    return bucket.owner if request.principal.kind is PrincipalKind.ANONYMOUS else request.principal.id


def check_version_id(version_id: str | None) -> str:
    """A version id of a possible form, "" for none. Raises S3Error InvalidArgument."""
    if not version_id:
        return ""
    if not is_version_id(version_id):
        raise S3Error(
            "InvalidArgument",
            "Invalid version id specified",
            fields={"ArgumentName": "versionId", "ArgumentValue": version_id},
        )
    return version_id


def versioned(action: str, version_id: str) -> str:
    """IAM's name of an object action on a version: s3:GetObject -> s3:GetObjectVersion, s3:GetObjectTagging ->
    s3:GetObjectVersionTagging."""
    if not version_id:
        return action
    verb, _, rest = action.partition("Object")
    return f"{verb}ObjectVersion{rest}"


async def refuse_missing(
    services: Services, request: S3Request, bucket: Bucket, key: str, version_id: str, error: Exception
) -> NoReturn:
    """Raise what S3 answers for a key that can't be had: 404 and 405 are told only to who may list the bucket."""
    action = "s3:ListBucketVersions" if version_id else "s3:ListBucket"
    if not await allows(services, request, action, bucket, key=key):
        raise denied() from None
    if isinstance(error, IsDeleteMarker):
        headers = {"x-amz-delete-marker": "true", **version_headers(error.info.version_id)}
        if version_id:
            raise S3Error(
                "MethodNotAllowed",
                fields={"Method": request.http.method, "ResourceType": "DeleteMarker"},
                headers={**headers, "Allow": "DELETE"},
            ) from None
        raise S3Error("NoSuchKey", fields={"Key": key}, headers=headers) from None
    if isinstance(error, NoSuchVersion):
        raise S3Error("NoSuchVersion", fields={"Key": key, "VersionId": version_id}) from None
    raise S3Error("NoSuchKey", fields={"Key": key}) from None


async def arrived(
    services: Services, request: S3Request, bucket: Bucket, key: str, version_id: str, error: Exception
) -> bool:
    """Whether a key that was not here may be by now, fetched from the place that the bucket's objects come from. Only
    for who may read such an object: nobody else makes us fetch anything."""
    arrivals = await _arrivals(services, request, bucket, key, version_id, error)
    return arrivals is not None and await arrivals.bring(bucket, key)


async def _arrivals(
    services: Services, request: S3Request, bucket: Bucket, key: str, version_id: str, error: Exception
) -> Arrivals | None:
    if services.arrivals is None or not bucket.settings or version_id or not isinstance(error, NoSuchKey):
        return None
    allowed = await allows(services, request, "s3:GetObject", bucket, key=key, object_owner=bucket.owner)
    return services.arrivals if allowed else None


async def arrive(services: Services, bucket: Bucket, key: str, condition: WriteCondition) -> None:
    """Before a write or delete under a condition: what the condition is about must be here to be judged."""
    if services.arrivals is None or not bucket.settings or condition is UNCONDITIONAL:
        return
    try:
        await services.store.head_object(bucket, key)
    except NoSuchKey:
        await services.arrivals.bring(bucket, key)
    except IsDeleteMarker:
        return


def lister(services: Services, bucket: Bucket) -> Lister:
    """Who lists the bucket's objects: the store, or what adds to it what is still to come."""
    return services.store if services.arrivals is None or not bucket.settings else services.arrivals


async def require_object(
    services: Services,
    request: S3Request,
    action: str,
    bucket: Bucket,
    key: str,
    version_id: str,
    info: ObjectInfo,
) -> None:
    """Ask about `action` on an object that was found. Raises S3Error AccessDenied."""
    if not await allows(
        services,
        request,
        versioned(action, version_id),
        bucket,
        key=key,
        version_id=version_id,
        object_owner=info.attributes.owner,
        object_acl=info.attributes.acl,
    ):
        raise denied()


async def open_here(services: Services, request: S3Request, bucket: Bucket, key: str, version_id: str) -> OpenObject:
    """An object that is here, opened; access to it is still to be decided. Raises what `refuse_missing` does."""
    try:
        return await services.store.open_object(bucket, key, version_id)
    except (NoSuchKey, NoSuchVersion, IsDeleteMarker) as error:
        await refuse_missing(services, request, bucket, key, version_id, error)


async def open_anyhow(services: Services, request: S3Request, bucket: Bucket, key: str, version_id: str) -> OpenObject:
    """The same, brought here first where it is still to come."""
    try:
        return await services.store.open_object(bucket, key, version_id)
    except (NoSuchKey, NoSuchVersion, IsDeleteMarker) as error:
        if not await arrived(services, request, bucket, key, version_id, error):
            await refuse_missing(services, request, bucket, key, version_id, error)
    return await open_here(services, request, bucket, key, version_id)


async def open_object(
    services: Services, request: S3Request, *actions: str, bucket: Bucket, key: str, version_id: str
) -> OpenObject:
    """An object opened for reading, once every one of `actions` on it is allowed; the caller closes it."""
    check_key(key)
    opened = await open_anyhow(services, request, bucket, key, version_id)
    await _require_all(services, request, actions, bucket, version_id, opened)
    return opened


async def open_readable(
    services: Services, request: S3Request, *actions: str, bucket: Bucket, key: str, version_id: str
) -> Readable:
    """The same for a plain read, which may be of where the object is still."""
    check_key(key)
    try:
        opened: Readable = await services.store.open_object(bucket, key, version_id)
    except (NoSuchKey, NoSuchVersion, IsDeleteMarker) as error:
        opened = await _open_coming(services, request, bucket, key, version_id, error)
    await _require_all(services, request, actions, bucket, version_id, opened)
    return opened


async def open_latest(services: Services, request: S3Request, action: str) -> tuple[Bucket, Readable]:
    """The request's bucket and the latest version of its key, opened for a plain read, once `action` on it is allowed.
    As `find_bucket` and `open_readable`, with one look at the catalog."""
    key = request.key
    try:
        bucket, found = await services.store.open_latest(request.bucket, key)
    except NoSuchBucket:
        raise no_such_bucket(request.bucket) from None
    opened: Readable | EngineError = found
    try:
        _check_owner(bucket, request.params.get("ExpectedBucketOwner"))
        check_key(key)
        if isinstance(opened, EngineError):
            opened = await _open_coming(services, request, bucket, key, "", opened)
        await require_object(services, request, action, bucket, key, "", opened.info)
    except BaseException:
        if not isinstance(opened, EngineError):
            opened.close()
        raise
    return bucket, opened


async def _open_coming(
    services: Services, request: S3Request, bucket: Bucket, key: str, version_id: str, error: Exception
) -> Readable:
    """What could not be opened: where it is still, or here once it was brought."""
    arrivals = await _arrivals(services, request, bucket, key, version_id, error)
    if arrivals is None:
        await refuse_missing(services, request, bucket, key, version_id, error)
    far = None
    if request.params.get("PartNumber") is None:
        far = await arrivals.look(bucket, key, head=request.http.method == "HEAD")
    if far is None:
        await arrivals.bring(bucket, key)
    return far or await open_here(services, request, bucket, key, version_id)


async def _require_all(
    services: Services,
    request: S3Request,
    actions: tuple[str, ...],
    bucket: Bucket,
    version_id: str,
    opened: Readable,
) -> None:
    """Every action on an opened object must be allowed; it is closed if one is not."""
    try:
        for action in actions:
            await require_object(services, request, action, bucket, opened.info.key, version_id, opened.info)
    except BaseException:
        opened.close()
        raise


async def head_object(services: Services, request: S3Request, *actions: str) -> tuple[Bucket, str, ObjectInfo]:
    """The request's bucket, version id and object, once every one of `actions` is allowed on it."""
    bucket = await find_bucket(services, request.bucket, request.params.get("ExpectedBucketOwner"))
    version_id = check_version_id(request.params.get("VersionId"))
    check_key(request.key)
    try:
        info = await services.store.head_object(bucket, request.key, version_id)
    except (NoSuchKey, NoSuchVersion, IsDeleteMarker) as error:
        if not await arrived(services, request, bucket, request.key, version_id, error):
            await refuse_missing(services, request, bucket, request.key, version_id, error)
        async with await open_here(services, request, bucket, request.key, version_id) as opened:
            info = opened.info
    for action in actions:
        await require_object(services, request, action, bucket, request.key, version_id, info)
    return bucket, version_id, info


def bucket_check(services: Services) -> BucketCheck:
    """The check that guards the fixed answers for configurations that can't be set."""

    async def check(request: S3Request, action: str) -> Bucket:
        return await require_bucket(services, request, action)

    return check
