"""Canned ACLs: from headers and documents, and printed as grants.

Four canned ACLs are kept: `private`, `public-read`, `public-read-write`, `authenticated-read`. Since a bucket's owner
may do everything in it, `bucket-owner-read` and `bucket-owner-full-control` on an object mean the same as `private`. A
document of grants is accepted when it says exactly what one of the four says; any other grant answers 501
NotImplemented, so that nobody believes in rights that are not enforced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.s3.contract import S3Request, UserDirectory
from gateway.s3.errors import S3Error

ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
AUTHENTICATED_USERS = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"

#: Grants to groups that each canned ACL adds to its owner's FULL_CONTROL.
_GROUP_GRANTS: dict[str, frozenset[tuple[str, str]]] = {
    "private": frozenset(),
    "public-read": frozenset({(ALL_USERS, "READ")}),
    "public-read-write": frozenset({(ALL_USERS, "READ"), (ALL_USERS, "WRITE")}),
    "authenticated-read": frozenset({(AUTHENTICATED_USERS, "READ")}),
}
_BY_GRANTS = {grants: name for name, grants in _GROUP_GRANTS.items()}
_SAME_AS_PRIVATE = ("bucket-owner-read", "bucket-owner-full-control")
_KNOWN_ONLY = ("aws-exec-read", "log-delivery-write")


def _refuse_grants() -> S3Error:
    return S3Error(
        "NotImplemented",
        "Grants other than those of the canned ACLs private, public-read, "
        "public-read-write and authenticated-read are not implemented.",
    )


def acl_from_headers(params: Mapping[str, Any]) -> str | None:
    """The canned ACL that the request's headers ask for; None when they ask for none.

    Raises S3Error InvalidArgument for an unknown one, NotImplemented for one that names AWS's own services.
    """
    name = params.get("ACL")
    if not name:
        return None
    if name in _GROUP_GRANTS:
        return str(name)
    if name in _SAME_AS_PRIVATE:
        return "private"
    if name in _KNOWN_ONLY:
        raise _refuse_grants()
    raise S3Error("InvalidArgument", fields={"ArgumentName": "x-amz-acl", "ArgumentValue": str(name)})


def acl_from_document(policy: Mapping[str, Any], owner: str) -> str:
    """The canned ACL that an AccessControlPolicy of `owner`'s resource equals.

    Raises S3Error MalformedACLError for one that is no ACL, AccessDenied for one that names another owner,
    NotImplemented for grants that no canned ACL has.
    """
    stated = policy.get("Owner") or {}
    if not stated.get("ID"):
        raise S3Error("MalformedACLError")
    if stated["ID"] != owner:
        raise S3Error("AccessDenied")
    groups: set[tuple[str, str]] = set()
    owner_controls = False
    for grant in policy.get("Grants") or ():
        grantee, permission = grant.get("Grantee") or {}, grant.get("Permission")
        if permission not in ("FULL_CONTROL", "READ", "WRITE", "READ_ACP", "WRITE_ACP"):
            raise S3Error("MalformedACLError")
        kind = grantee.get("Type")
        if kind == "Group" and grantee.get("URI"):
            groups.add((grantee["URI"], permission))
        elif kind == "CanonicalUser" and grantee.get("ID"):
            if grantee["ID"] != owner or permission != "FULL_CONTROL":
                raise _refuse_grants()
            owner_controls = True
        elif kind == "AmazonCustomerByEmail":
            raise _refuse_grants()
        else:
            raise S3Error("MalformedACLError")
    name = _BY_GRANTS.get(frozenset(groups))
    if name is None or not owner_controls:
        raise _refuse_grants()
    return name


def owner_output(owner: str, users: UserDirectory) -> dict[str, str]:
    """The model's Owner; the display name only while the user exists."""
    user = users.by_id(owner)
    return {"ID": owner} if user is None else {"DisplayName": user.name, "ID": owner}


def grants_output(acl: str, owner: str, users: UserDirectory) -> list[dict[str, Any]]:
    """The model's Grants of a canned ACL."""
    grants: Iterable[tuple[str, str]] = sorted(_GROUP_GRANTS[acl])
    return [
        *({"Grantee": {"Type": "Group", "URI": uri}, "Permission": permission} for uri, permission in grants),
        {"Grantee": {"Type": "CanonicalUser", **owner_output(owner, users)}, "Permission": "FULL_CONTROL"},
    ]


async def requested_acl(request: S3Request, owner: str) -> str:
    """The canned ACL that a PutBucketAcl or PutObjectAcl asks for, by header or by document, for a resource of
    `owner`. Raises S3Error MissingSecurityHeader, UnexpectedContent, and those of both forms."""
    named = acl_from_headers(request.params)
    if named is not None:
        if request.body.length:
            raise S3Error("UnexpectedContent", "This request does not support content", status=400)
        return named
    policy = await request.document()
    if not policy:
        raise S3Error(
            "MissingSecurityHeader",
            "Your request was missing a required header",
            status=400,
            fields={"MissingHeaderName": "x-amz-acl"},
        )
    return acl_from_document(policy, owner)
