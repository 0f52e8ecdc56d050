"""What S3's operations do: one file per resource and verb, one function per operation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from gateway.s3.contract import Handler, S3Request, S3Response, Services
from gateway.s3.handlers.bucket_acl_get import get_bucket_acl
from gateway.s3.handlers.bucket_acl_put import put_bucket_acl
from gateway.s3.handlers.bucket_create import create_bucket
from gateway.s3.handlers.bucket_delete import delete_bucket
from gateway.s3.handlers.bucket_head import head_bucket
from gateway.s3.handlers.bucket_list import list_buckets
from gateway.s3.handlers.bucket_location_get import get_bucket_location
from gateway.s3.handlers.bucket_tagging_delete import delete_bucket_tagging
from gateway.s3.handlers.bucket_tagging_get import get_bucket_tagging
from gateway.s3.handlers.bucket_tagging_put import put_bucket_tagging
from gateway.s3.handlers.bucket_versioning_get import get_bucket_versioning
from gateway.s3.handlers.bucket_versioning_put import put_bucket_versioning
from gateway.s3.handlers.object_acl_get import get_object_acl
from gateway.s3.handlers.object_acl_put import put_object_acl
from gateway.s3.handlers.object_attributes_get import get_object_attributes
from gateway.s3.handlers.object_copy import copy_object
from gateway.s3.handlers.object_delete import delete_object
from gateway.s3.handlers.object_get import get_object
from gateway.s3.handlers.object_head import head_object
from gateway.s3.handlers.object_put import put_object
from gateway.s3.handlers.object_tagging_delete import delete_object_tagging
from gateway.s3.handlers.object_tagging_get import get_object_tagging
from gateway.s3.handlers.object_tagging_put import put_object_tagging
from gateway.s3.handlers.objects_delete import delete_objects
from gateway.s3.handlers.objects_list import list_objects
from gateway.s3.handlers.objects_list_v2 import list_objects_v2
from gateway.s3.handlers.part_copy import upload_part_copy
from gateway.s3.handlers.part_upload import upload_part
from gateway.s3.handlers.parts_list import list_parts
from gateway.s3.handlers.upload_abort import abort_multipart_upload
from gateway.s3.handlers.upload_complete import complete_multipart_upload
from gateway.s3.handlers.upload_create import create_multipart_upload
from gateway.s3.handlers.uploads_list import list_multipart_uploads
from gateway.s3.handlers.versions_list import list_object_versions

_HANDLERS: dict[str, Callable[[Services, S3Request], Awaitable[S3Response]]] = {
    "AbortMultipartUpload": abort_multipart_upload,
    "CompleteMultipartUpload": complete_multipart_upload,
    "CopyObject": copy_object,
    "CreateBucket": create_bucket,
    "CreateMultipartUpload": create_multipart_upload,
    "DeleteBucket": delete_bucket,
    "DeleteBucketTagging": delete_bucket_tagging,
    "DeleteObject": delete_object,
    "DeleteObjectTagging": delete_object_tagging,
    "DeleteObjects": delete_objects,
    "GetBucketAcl": get_bucket_acl,
    "GetBucketLocation": get_bucket_location,
    "GetBucketTagging": get_bucket_tagging,
    "GetBucketVersioning": get_bucket_versioning,
    "GetObject": get_object,
    "GetObjectAcl": get_object_acl,
    "GetObjectAttributes": get_object_attributes,
    "GetObjectTagging": get_object_tagging,
    "HeadBucket": head_bucket,
    "HeadObject": head_object,
    "ListBuckets": list_buckets,
    "ListMultipartUploads": list_multipart_uploads,
    "ListObjectVersions": list_object_versions,
    "ListObjects": list_objects,
    "ListObjectsV2": list_objects_v2,
    "ListParts": list_parts,
    "PutBucketAcl": put_bucket_acl,
    "PutBucketTagging": put_bucket_tagging,
    "PutBucketVersioning": put_bucket_versioning,
    "PutObject": put_object,
    "PutObjectAcl": put_object_acl,
    "PutObjectTagging": put_object_tagging,
    "UploadPart": upload_part,
    "UploadPartCopy": upload_part_copy,
}

#: Operations that have a handler, by the model's name.
IMPLEMENTED = frozenset(_HANDLERS)


def register(services: Services) -> dict[str, Handler]:
    """Every handler by its operation's name, bound to what it works with."""
    return {name: partial(function, services) for name, function in _HANDLERS.items()}
