"""S3's errors: codes, HTTP statuses, default messages, and the mapping of the object store's refusals.

Codes and texts follow the S3 API reference's list of error responses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from catalog.errors import CatalogClosed, CatalogFull, CatalogMoving, CatalogUnavailable
from core.errors import AtollError
from engine import errors as engine_errors


class S3Error(AtollError):
    """An answer that refuses. `fields` are printed as further XML elements, in order; `headers` go with the answer.

    Status and message default to the code's entry in `CODES`.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        status: int | None = None,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        default_status, default_message = CODES.get(code, (400, code))
        self.code = code
        self.message = message or default_message
        self.status = default_status if status is None else status
        self.fields: Mapping[str, str] = fields or {}
        self.headers: Mapping[str, str] = headers or {}
        super().__init__(f"{code}: {self.message}")


_TRAILER = "The request contained trailing data that was not well-formed or did not conform to our published schema."
_HEADER_NOT_IMPLEMENTED = "A header you provided implies functionality that is not implemented."
_SIGNATURE = (
    "The request signature we calculated does not match the signature you provided. Check your key and signing method."
)
_TAKEN = (
    "The requested bucket name is not available. The bucket namespace is shared by all users of the system. "
    "Please select a different name and try again."
)
_SKEW = "The difference between the request time and the server's time is too large."

#: code -> (HTTP status, message)
CODES: dict[str, tuple[int, str]] = {
    "AccessDenied": (403, "Access Denied"),
    "AccessForbidden": (403, "CORSResponse: CORS is not enabled for this bucket."),
    "AuthorizationHeaderMalformed": (400, "The authorization header that you provided is not valid."),
    "AuthorizationQueryParametersError": (400, "The authorization query parameters that you provided are not valid."),
    "BadDigest": (400, "The Content-MD5 you specified did not match what we received."),
    "BadRequest": (400, "Bad Request"),
    "BucketAlreadyExists": (409, _TAKEN),
    "BucketAlreadyOwnedByYou": (
        409,
        "Your previous request to create the named bucket succeeded and you already own it.",
    ),
    "BucketNotEmpty": (409, "The bucket you tried to delete is not empty"),
    "ConditionalRequestConflict": (
        409,
        "The conditional request cannot succeed due to a conflicting operation against this resource.",
    ),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size"),
    "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size"),
    "IllegalLocationConstraintException": (400, "The specified location constraint is incompatible for this region."),
    "IllegalVersioningConfigurationException": (
        400,
        "The Versioning element must be specified",
    ),
    "IncompleteBody": (400, "You did not provide the number of bytes specified by the Content-Length HTTP header"),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidAccessKeyId": (403, "The AWS Access Key Id you provided does not exist in our records."),
    "InvalidArgument": (400, "Invalid Argument"),
    "InvalidBucketName": (400, "The specified bucket is not valid."),
    "InvalidBucketState": (409, "The request is not valid with the current state of the bucket."),
    "InvalidChunkSizeError": (403, "Only the last chunk is allowed to have a size less than 8192 bytes"),
    "InvalidDigest": (400, "The Content-MD5 you specified was invalid."),
    "InvalidEncryptionAlgorithmError": (400, "The encryption request that you specified is not valid."),
    "InvalidLocationConstraint": (400, "The specified location-constraint is not valid"),
    "InvalidObjectState": (403, "The operation is not valid for the object's storage class"),
    "InvalidPart": (
        400,
        "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified "
        "entity tag may not match the part's entity tag.",
    ),
    "InvalidPartNumber": (416, "The requested partnumber is not satisfiable"),
    "InvalidPartOrder": (
        400,
        "The list of parts was not in ascending order. The parts list must be specified in order by part number.",
    ),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    "InvalidRequest": (400, "Invalid Request"),
    "InvalidStorageClass": (400, "The storage class you specified is not valid"),
    "InvalidTag": (400, "The tag provided was not a valid tag."),
    "InvalidToken": (400, "The provided token is malformed or otherwise invalid."),
    "InvalidURI": (400, "Couldn't parse the specified URI."),
    "KeyTooLongError": (400, "Your key is too long"),
    "MalformedACLError": (
        400,
        "The XML you provided was not well-formed or did not validate against our published schema",
    ),
    "MalformedTrailerError": (400, _TRAILER),
    "MalformedXML": (400, "The XML you provided was not well-formed or did not validate against our published schema"),
    "MaxMessageLengthExceeded": (400, "Your request was too big."),
    "MetadataTooLarge": (400, "Your metadata headers exceed the maximum allowed metadata size"),
    "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
    "MissingRequestBodyError": (400, "Request Body is empty"),
    "MissingSecurityHeader": (400, "Your request was missing a required header"),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NoSuchBucketPolicy": (404, "The bucket policy does not exist"),
    "NoSuchCORSConfiguration": (404, "The CORS configuration does not exist"),
    "NoSuchConfiguration": (404, "The specified configuration does not exist."),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchLifecycleConfiguration": (404, "The lifecycle configuration does not exist"),
    "NoSuchObjectLockConfiguration": (404, "The specified object does not have a ObjectLock configuration"),
    "NoSuchPublicAccessBlockConfiguration": (404, "The public access block configuration was not found"),
    "NoSuchTagSet": (404, "The TagSet does not exist"),
    "NoSuchUpload": (
        404,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or "
        "completed.",
    ),
    "NoSuchVersion": (404, "The specified version does not exist."),
    "NoSuchWebsiteConfiguration": (404, "The specified bucket does not have a website configuration"),
    "NotImplemented": (501, _HEADER_NOT_IMPLEMENTED),
    "NotModified": (304, "Not Modified"),
    "NotSignedUp": (403, "Your account is not signed up for the Amazon S3 service."),
    "ObjectLockConfigurationNotFoundError": (404, "Object Lock configuration does not exist for this bucket"),
    "OperationAborted": (
        409,
        "A conflicting conditional operation is currently in progress against this resource. Please try again.",
    ),
    "OwnershipControlsNotFoundError": (404, "The bucket ownership controls were not found"),
    "PermanentRedirect": (
        301,
        "The bucket you are attempting to access must be addressed using the specified endpoint.",
    ),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
    "ReplicationConfigurationNotFoundError": (404, "The replication configuration was not found"),
    "RequestHeaderSectionTooLarge": (
        400,
        "Your request header section exceeds the maximum allowed request header size.",
    ),
    "RequestTimeTooSkewed": (403, _SKEW),
    "RequestTimeout": (
        400,
        "Your socket connection to the server was not read from or written to within the timeout period. Idle "
        "connections will be closed.",
    ),
    "ServerSideEncryptionConfigurationNotFoundError": (404, "The server side encryption configuration was not found"),
    "ServiceUnavailable": (503, "Service is unable to handle request."),
    "SignatureDoesNotMatch": (403, _SIGNATURE),
    "SlowDown": (503, "Please reduce your request rate."),
    "TooManyBuckets": (400, "You have attempted to create more buckets than allowed"),
    "XAmzContentSHA256Mismatch": (400, "The provided 'x-amz-content-sha256' header does not match what was computed."),
}

#: Seconds that a client is asked to wait after a 503.
RETRY_AFTER = {"Retry-After": "5"}


def _unavailable(error: AtollError) -> S3Error:
    return S3Error(
        "ServiceUnavailable",
        "Not enough storage nodes answer at the moment. Please try again.",
        headers=RETRY_AFTER,
    )


def _storage_full(error: AtollError) -> S3Error:
    return S3Error("ServiceUnavailable", "There is no space left to write to.", headers=RETRY_AFTER)


def _moving(error: AtollError) -> S3Error:
    return S3Error("SlowDown", headers=RETRY_AFTER)


def _delete_marker(error: AtollError) -> S3Error:
    assert isinstance(error, engine_errors.IsDeleteMarker)
    return S3Error("NoSuchKey", fields={"Key": error.info.key}, headers={"x-amz-delete-marker": "true"})


def _part_too_small(error: AtollError) -> S3Error:
    assert isinstance(error, engine_errors.PartTooSmall)
    return S3Error(
        "EntityTooSmall",
        fields={
            "ProposedSize": str(error.size),
            "MinSizeAllowed": str(error.minimum),
            "PartNumber": str(error.number),
            "ETag": error.etag,
        },
    )


def _precondition(error: AtollError) -> S3Error:
    assert isinstance(error, engine_errors.PreconditionFailed)
    return S3Error("PreconditionFailed", fields={"Condition": error.condition})


def _plain(code: str) -> Callable[[AtollError], S3Error]:
    return lambda error: S3Error(code)


_ENGINE: dict[type[AtollError], Callable[[AtollError], S3Error]] = {
    engine_errors.NoSuchBucket: _plain("NoSuchBucket"),
    engine_errors.BucketExists: _plain("BucketAlreadyExists"),
    engine_errors.BucketNotEmpty: _plain("BucketNotEmpty"),
    engine_errors.TooManyBuckets: _plain("TooManyBuckets"),
    engine_errors.NoSuchKey: _plain("NoSuchKey"),
    engine_errors.NoSuchVersion: _plain("NoSuchVersion"),
    engine_errors.IsDeleteMarker: _delete_marker,
    engine_errors.NoSuchUpload: _plain("NoSuchUpload"),
    engine_errors.InvalidPart: _plain("InvalidPart"),
    engine_errors.InvalidPartOrder: _plain("InvalidPartOrder"),
    engine_errors.PartTooSmall: _part_too_small,
    engine_errors.PreconditionFailed: _precondition,
    engine_errors.ConditionalConflict: _plain("ConditionalRequestConflict"),
    engine_errors.Unavailable: _unavailable,
    engine_errors.RootKeyRotated: _plain("ServiceUnavailable"),  # another process, or gateway, can serve
    engine_errors.StorageFull: _storage_full,
    CatalogFull: _storage_full,
    CatalogMoving: _moving,
    CatalogUnavailable: _plain("ServiceUnavailable"),
    CatalogClosed: _plain("ServiceUnavailable"),  # this process ends, another one can serve
}


def map_engine_error(error: BaseException) -> S3Error | None:
    """The S3 error for a refusal of the object store; None when there is none but InternalError, which the caller
    logs. `Damaged` is among those: the client can't help it."""
    for kind in type(error).__mro__:
        make = _ENGINE.get(kind)
        if make is not None:
            assert isinstance(error, AtollError)
            return make(error)
    return None
