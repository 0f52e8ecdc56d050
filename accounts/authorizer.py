"""The first Authorizer: root and owners do everything, others what a canned ACL gives them."""

from __future__ import annotations

from core.access import AccessContext, Decision, Principal, PrincipalKind, Resource

CANNED_ACLS = ("private", "public-read", "public-read-write", "authenticated-read")

#: What an ACL's READ and WRITE on a bucket mean, in IAM's action names.
_BUCKET_READ = frozenset({"s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"})
_BUCKET_WRITE = frozenset({"s3:PutObject", "s3:DeleteObject"})
#: READ on an object.
_OBJECT_READ = frozenset(
    {"s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectAttributes", "s3:GetObjectVersionAttributes"}
)
#: What an object's own owner may do with it in somebody else's bucket: the FULL_CONTROL that every canned ACL gives it.
_OBJECT_OWNER = _OBJECT_READ | frozenset(
    {
        "s3:GetObjectAcl",
        "s3:GetObjectVersionAcl",
        "s3:PutObjectAcl",
        "s3:PutObjectVersionAcl",
        "s3:GetObjectTagging",
        "s3:GetObjectVersionTagging",
        "s3:PutObjectTagging",
        "s3:PutObjectVersionTagging",
        "s3:DeleteObjectTagging",
        "s3:DeleteObjectVersionTagging",
        "s3:ListMultipartUploadParts",
        "s3:AbortMultipartUpload",
    }
)
#: What every signed user may ask of the service itself.
_SERVICE = frozenset({"s3:ListAllMyBuckets", "s3:CreateBucket"})


def _grants_read(acl: str, principal: Principal) -> bool:
    if acl in ("public-read", "public-read-write"):
        return True
    return acl == "authenticated-read" and principal.kind is not PrincipalKind.ANONYMOUS


def decide(principal: Principal, action: str, context: AccessContext) -> bool:
    """Whether `principal` may do `action`, by ownership and canned ACLs alone."""
    signed = principal.kind is not PrincipalKind.ANONYMOUS
    if principal.kind is PrincipalKind.ROOT:
        return True
    if action in _SERVICE:
        return signed
    if signed and principal.id == context.bucket_owner:
        return True
    if signed and principal.id == context.object_owner and action in _OBJECT_OWNER:
        return True
    if action in _OBJECT_READ:
        return _grants_read(context.object_acl, principal)
    if action in _BUCKET_READ:
        return _grants_read(context.bucket_acl, principal)
    return action in _BUCKET_WRITE and context.bucket_acl == "public-read-write"


class CannedAuthorizer:
    """Implements core.access.Authorizer without policies. Needs nothing but what the context tells."""

    async def authorize(
        self, principal: Principal, action: str, resource: Resource, context: AccessContext
    ) -> Decision:
        return Decision.ALLOW if decide(principal, action, context) else Decision.DENY
