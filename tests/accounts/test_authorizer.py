"""What ownership and the four canned ACLs give, decision by decision."""

from __future__ import annotations

import pytest

from accounts.authorizer import CannedAuthorizer, decide
from core.access import ANONYMOUS, AccessContext, Decision, Principal, PrincipalKind, Resource

ROOT = Principal(PrincipalKind.ROOT, "root-id", "root")
OWNER = Principal(PrincipalKind.USER, "owner-id", "owner")
WRITER = Principal(PrincipalKind.USER, "writer-id", "writer")
OTHER = Principal(PrincipalKind.USER, "other-id", "other")

LIST, GET, PUT, DELETE = "s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"


def _context(bucket_acl: str = "private", object_acl: str = "private") -> AccessContext:
    return AccessContext(
        bucket_owner="owner-id", bucket_acl=bucket_acl, object_owner="writer-id", object_acl=object_acl
    )


@pytest.mark.parametrize("action", [LIST, GET, PUT, DELETE, "s3:PutBucketAcl", "s3:DeleteBucket", "s3:AnythingElse"])
def test_root_and_owner_may_everything_and_others_nothing(action: str) -> None:
    assert decide(ROOT, action, _context())
    assert decide(OWNER, action, _context())
    assert not decide(OTHER, action, _context())
    assert not decide(ANONYMOUS, action, _context())


@pytest.mark.parametrize(
    ("bucket_acl", "action", "other", "anonymous"),
    [
        ("public-read", LIST, True, True),
        ("public-read", "s3:ListBucketVersions", True, True),
        ("public-read", GET, False, False),
        ("public-read", PUT, False, False),
        ("public-read-write", LIST, True, True),
        ("public-read-write", PUT, True, True),
        ("public-read-write", DELETE, True, True),
        ("public-read-write", "s3:DeleteObjectVersion", False, False),
        ("public-read-write", "s3:PutBucketAcl", False, False),
        ("public-read-write", GET, False, False),
        ("authenticated-read", LIST, True, False),
        ("authenticated-read", PUT, False, False),
    ],
)
def test_bucket_acls(bucket_acl: str, action: str, other: bool, anonymous: bool) -> None:
    assert decide(OTHER, action, _context(bucket_acl)) is other
    assert decide(ANONYMOUS, action, _context(bucket_acl)) is anonymous


@pytest.mark.parametrize(
    ("object_acl", "action", "other", "anonymous"),
    [
        ("public-read", GET, True, True),
        ("public-read", "s3:GetObjectVersion", True, True),
        ("public-read", "s3:GetObjectAcl", False, False),
        ("public-read", "s3:GetObjectTagging", False, False),
        ("public-read-write", GET, True, True),
        ("public-read-write", PUT, False, False),
        ("authenticated-read", GET, True, False),
    ],
)
def test_object_acls(object_acl: str, action: str, other: bool, anonymous: bool) -> None:
    assert decide(OTHER, action, _context(object_acl=object_acl)) is other
    assert decide(ANONYMOUS, action, _context(object_acl=object_acl)) is anonymous


def test_writer_of_an_object_reads_it_and_its_acl_but_does_not_delete_it() -> None:
    assert decide(WRITER, GET, _context())
    assert decide(WRITER, "s3:PutObjectAcl", _context())
    assert not decide(WRITER, DELETE, _context())
    assert not decide(WRITER, LIST, _context())


def test_an_object_of_nobody_is_not_owned_by_the_anonymous_caller() -> None:
    context = AccessContext(bucket_owner="owner-id", object_owner="")
    assert not decide(ANONYMOUS, GET, context)


def test_the_service_itself_is_for_signed_callers() -> None:
    for action in ("s3:ListAllMyBuckets", "s3:CreateBucket"):
        assert decide(OTHER, action, AccessContext())
        assert not decide(ANONYMOUS, action, AccessContext())


async def test_the_port_answers_with_decisions() -> None:
    authorizer = CannedAuthorizer()
    resource = Resource("bucket", "key")
    assert await authorizer.authorize(OWNER, GET, resource, _context()) is Decision.ALLOW
    assert await authorizer.authorize(OTHER, GET, resource, _context()) is Decision.DENY
