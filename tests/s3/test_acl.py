"""Get/PutBucketAcl, Get/PutObjectAcl, and what the four canned ACLs let others do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.live_server import LiveServer
from tests.s3.expecting import ALT_ID, MAIN_ID, keys, plain_request, refused

ALL = "http://acs.amazonaws.com/groups/global/AllUsers"
AUTHENTICATED = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
CANNED: dict[str, list[tuple[str, str]]] = {
    "private": [],
    "public-read": [(ALL, "READ")],
    "public-read-write": [(ALL, "READ"), (ALL, "WRITE")],
    "authenticated-read": [(AUTHENTICATED, "READ")],
}


def _groups(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(g["Grantee"]["URI"], g["Permission"]) for g in answer["Grants"] if g["Grantee"]["Type"] == "Group"]


def _owner_grants(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(g["Grantee"]["ID"], g["Permission"]) for g in answer["Grants"] if g["Grantee"]["Type"] != "Group"]


@pytest.mark.parametrize("acl", CANNED)
def test_bucket_acl_is_printed_as_grants_and_read_back(main: Any, new_bucket: Callable[..., str], acl: str) -> None:
    name = new_bucket(ACL=acl)
    answer = main.get_bucket_acl(Bucket=name)
    assert answer["Owner"] == {"DisplayName": "Main User", "ID": MAIN_ID}
    assert _groups(answer) == CANNED[acl]
    assert _owner_grants(answer) == [(MAIN_ID, "FULL_CONTROL")]
    other = new_bucket()
    main.put_bucket_acl(Bucket=other, AccessControlPolicy={"Owner": answer["Owner"], "Grants": answer["Grants"]})
    assert _groups(main.get_bucket_acl(Bucket=other)) == CANNED[acl]


@pytest.mark.parametrize("acl", CANNED)
def test_object_acl_is_printed_as_grants(main: Any, bucket: str, acl: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=b"x", ACL=acl)
    assert _groups(main.get_object_acl(Bucket=bucket, Key="key")) == CANNED[acl]
    main.put_object_acl(Bucket=bucket, Key="key", ACL="private")
    assert _groups(main.get_object_acl(Bucket=bucket, Key="key")) == []


def test_wrong_acls(main: Any, server: LiveServer, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=b"x")
    with refused("InvalidArgument", 400):
        main.put_bucket_acl(Bucket=bucket, ACL="everybody")
    with refused("InvalidArgument", 400):
        main.put_object(Bucket=bucket, Key="other", Body=b"x", ACL="everybody")
    with refused("NotImplemented", 501):
        main.put_object_acl(Bucket=bucket, Key="key", GrantRead=f"id={ALT_ID}")
    owner = {"ID": MAIN_ID}
    alt_grant = {"Grantee": {"Type": "CanonicalUser", "ID": ALT_ID}, "Permission": "READ"}
    with refused("NotImplemented", 501):
        main.put_bucket_acl(Bucket=bucket, AccessControlPolicy={"Owner": owner, "Grants": [alt_grant]})
    with refused("AccessDenied", 403):
        main.put_bucket_acl(Bucket=bucket, AccessControlPolicy={"Owner": {"ID": ALT_ID}, "Grants": []})
    with refused("NoSuchKey", 404):
        main.get_object_acl(Bucket=bucket, Key="other")
    assert _groups(main.get_bucket_acl(Bucket=bucket)) == []


def test_acls_are_the_owners_business(main: Any, alt: Any, anonymous: Any, new_bucket: Callable[..., str]) -> None:
    name = new_bucket(ACL="public-read-write")
    main.put_object(Bucket=name, Key="key", Body=b"x", ACL="public-read-write")
    for client in (alt, anonymous):
        with refused("AccessDenied", 403):
            client.get_bucket_acl(Bucket=name)
        with refused("AccessDenied", 403):
            client.put_bucket_acl(Bucket=name, ACL="private")
        with refused("AccessDenied", 403):
            client.get_object_acl(Bucket=name, Key="key")
        with refused("AccessDenied", 403):
            client.put_object_acl(Bucket=name, Key="key", ACL="private")


def test_private_object_is_nobody_elses(main: Any, alt: Any, anonymous: Any, root: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=b"secret")
    for client in (alt, anonymous):
        with refused("AccessDenied", 403):
            client.get_object(Bucket=bucket, Key="key")
        with refused("AccessDenied", 403):
            client.get_object(Bucket=bucket, Key="missing")  # not 404: keys are not to be found out
        with refused("AccessDenied", 403):
            client.delete_object(Bucket=bucket, Key="key")
        with refused("AccessDenied", 403):
            client.put_object(Bucket=bucket, Key="key", Body=b"mine")
        with refused("AccessDenied", 403):
            client.list_objects_v2(Bucket=bucket)
    assert root.get_object(Bucket=bucket, Key="key")["Body"].read() == b"secret"


def test_public_objects_are_read_by_everybody(main: Any, alt: Any, anonymous: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=b"open", ACL="public-read")
    assert alt.get_object(Bucket=bucket, Key="key")["Body"].read() == b"open"
    assert anonymous.get_object(Bucket=bucket, Key="key")["Body"].read() == b"open"
    with refused("AccessDenied", 403):
        anonymous.put_object(Bucket=bucket, Key="key", Body=b"mine")


def test_authenticated_read_wants_a_signature(main: Any, alt: Any, anonymous: Any, bucket: str) -> None:
    main.put_object(Bucket=bucket, Key="key", Body=b"known", ACL="authenticated-read")
    assert alt.get_object(Bucket=bucket, Key="key")["Body"].read() == b"known"
    with refused("AccessDenied", 403):
        anonymous.get_object(Bucket=bucket, Key="key")


def test_public_read_bucket_is_listed_but_its_objects_stay_private(
    main: Any, anonymous: Any, new_bucket: Callable[..., str]
) -> None:
    name = new_bucket(ACL="public-read")
    main.put_object(Bucket=name, Key="key", Body=b"x")
    assert keys(anonymous.list_objects_v2(Bucket=name)) == ["key"]
    with refused("AccessDenied", 403):
        anonymous.get_object(Bucket=name, Key="key")
    with refused("NoSuchKey", 404):
        anonymous.get_object(Bucket=name, Key="missing")
    with refused("AccessDenied", 403):
        anonymous.put_object(Bucket=name, Key="new", Body=b"x")


def test_public_read_write_bucket_is_written_by_everybody(
    main: Any, alt: Any, anonymous: Any, new_bucket: Callable[..., str]
) -> None:
    name = new_bucket(ACL="public-read-write")
    anonymous.put_object(Bucket=name, Key="by-nobody", Body=b"1")
    alt.put_object(Bucket=name, Key="by-alt", Body=b"2", ACL="public-read")
    assert main.get_object_acl(Bucket=name, Key="by-alt")["Owner"]["ID"] == ALT_ID
    assert main.get_object_acl(Bucket=name, Key="by-nobody")["Owner"]["ID"] == MAIN_ID
    assert alt.get_object(Bucket=name, Key="by-alt")["Body"].read() == b"2"
    with refused("AccessDenied", 403):
        alt.get_object(Bucket=name, Key="by-nobody")
    anonymous.delete_object(Bucket=name, Key="by-alt")
    assert keys(main.list_objects_v2(Bucket=name)) == ["by-nobody"]


def test_changed_bucket_acl_takes_effect(main: Any, alt: Any, bucket: str) -> None:
    main.put_bucket_acl(Bucket=bucket, ACL="public-read")
    assert alt.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    main.put_bucket_acl(Bucket=bucket, ACL="private")
    with refused("AccessDenied", 403):
        alt.list_objects_v2(Bucket=bucket)


def test_acl_without_any_body_or_header(server: LiveServer, main: Any, bucket: str) -> None:
    url = main.generate_presigned_url("put_bucket_acl", {"Bucket": bucket})
    answer = plain_request("PUT", url, body=b"")
    assert answer.status == 400
    assert b"<Code>MissingSecurityHeader</Code>" in answer.body
