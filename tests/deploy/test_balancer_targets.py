"""What a client signed gets through a balancer as it was: targets, hosts, headers, and all that they address."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import boto3
import pytest
from botocore.config import Config

from tests.badinput.wire import Wire, hear
from tests.deploy.balancers import Balancer
from tests.deploy.conftest import Gateways, wait_until
from tests.deploy.door import Door
from tests.harness.live_server import REGION, ROOT_KEY_ID, ROOT_SECRET

pytestmark = pytest.mark.xdist_group("balancers")


@pytest.fixture(scope="module")
def bucket(gateways: Gateways) -> str:
    gateways.make("targets")
    return "targets"


@pytest.mark.parametrize(
    "key",
    [
        "plain",
        "a//b",
        "//leading",
        "trailing/",
        "trailing//",
        "a/./b",
        "a/../b",
        "a/b/../../c",
        ".",
        "..",
        "a%2Fb",
        "a%2fb%2F",
        "%41%7e",
        "sp%20ace",
        "plus+plus",
        "pl%2Bus",
        "%C3%BC%F0%9F%8F%9D",
        "semi;colon=1,2",
        "quote'(*)!",
        "back%5Cslash",
        "percent%25",
        "x%3Fy%23z",
        "%0A%09",
    ],
)
def test_a_signed_target_arrives_byte_by_byte(balancer: Balancer, bucket: str, key: str, gateways: Gateways) -> None:
    target = f"/{bucket}/{key}"
    before = len(gateways.logged(target))
    wire = Wire(balancer.http)
    # S3 signs a target in its one canonical spelling, whatever the spelling on the wire is.
    canonical = quote(unquote_to_bytes(target), safe="/~")
    head = wire.head("PUT", canonical, None, [("Content-Length", "5")])
    heard = wire.say(head.replace(canonical.encode(), target.encode(), 1) + b"hello")
    assert heard.status == 200, heard.body
    assert wait_until(lambda: len(gateways.logged(target)) == before + 1)


def test_a_target_of_8_kib_with_a_long_query_arrives(balancer: Balancer, bucket: str) -> None:
    target = f"/{bucket}?list-type=2&prefix={'p%C3%BC' * 1000}"
    assert Wire(balancer.http).one("GET", target).status == 200


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_boto3_works_through_it(balancer: Balancer, bucket: str, certificates: Path, scheme: str) -> None:
    port = balancer.https if scheme == "https" else balancer.http
    client = boto3.client(
        "s3",
        endpoint_url=f"{scheme}://127.0.0.1:{port}",
        region_name=REGION,
        aws_access_key_id=ROOT_KEY_ID,
        aws_secret_access_key=ROOT_SECRET,
        verify=str(certificates / "ca.pem"),
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    metadata = {"under_score": "1", "two-words": "a b"}
    client.put_object(Bucket=bucket, Key="empty", Body=b"")
    client.put_object(Bucket=bucket, Key="small", Body=b"x" * 100, Metadata=metadata, CacheControl="no-cache")
    client.list_objects_v2(Bucket=bucket)
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a b/ü+&"}]})


def test_many_headers_of_odd_names_arrive_with_their_signature(balancer: Balancer, bucket: str) -> None:
    headers = {f"x-amz-meta-a_{number}.b": "v" * 10 for number in range(90)}
    heard = Wire(balancer.http).one("PUT", f"/{bucket}/meta", b"1", headers)
    assert heard.status == 200


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_bucket_in_the_host_is_found(balancer: Balancer, bucket: str, scheme: str, certificates: Path) -> None:
    door = Door(balancer, scheme, certificates, host=f"{bucket}.s3.example.com")
    heard = door.one("GET", "/?list-type=2")
    assert heard.status == 200
    assert f"<Name>{bucket}</Name>".encode() in heard.body


def test_our_own_pages_are_not_for_the_public(balancer: Balancer) -> None:
    for target in ("/-/metrics", "/-/health/ready", "/-/health/live", "/-/"):
        heard = Wire(balancer.http).one("GET", target, who=None)
        assert heard.status == 404
        assert b"atoll_" not in heard.data


def test_a_client_that_asks_before_it_sends_is_answered(balancer: Balancer, bucket: str) -> None:
    wire = Wire(balancer.http)
    expect = ("Expect", "100-continue")
    heard = wire.say(wire.head("PUT", f"/{bucket}/refused", None, [("Content-Length", "1000000"), expect], who=None))
    # HAProxy leaves it to the gateway, which refuses before the body; nginx asks for the body by itself, and may have
    # heard of the refusal as soon.
    assert heard.statuses in ([[403]] if balancer.environment == "haproxy" else [[100], [100, 403]])
    with wire.connect() as connection:
        connection.sendall(wire.head("PUT", f"/{bucket}/taken", None, [("Content-Length", "5"), expect]))
        assert hear(connection).statuses == [100]
        connection.sendall(b"hello")
        assert hear(connection).status == 200
