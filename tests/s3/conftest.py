"""One real server for all S3 tests: a process with six disk nodes, three ordinary users, root, and nobody."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from tests.harness.live_server import REGION, LiveServer, live_server
from tests.s3.expecting import ALT_ID, ALT_KEY, LIMITED_BUCKETS, LIMITED_KEY, MAIN_ID, MAIN_KEY, SECRET

CONFIG = f"""
[[users]]
name = "Main User"
id = "{MAIN_ID}"
email = "main@example.com"
access_key_id = "{MAIN_KEY}"
secret_access_key = "{SECRET}"

[[users]]
name = "Alt User"
id = "{ALT_ID}"
email = "alt@example.com"
access_key_id = "{ALT_KEY}"
secret_access_key = "{SECRET}"

[[users]]
name = "Limited User"
access_key_id = "{LIMITED_KEY}"
secret_access_key = "{SECRET}"
max_buckets = {LIMITED_BUCKETS}
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("s3"), config=CONFIG) as running:
        yield running


@pytest.fixture(scope="session")
def root(server: LiveServer) -> Any:
    return server.client()


@pytest.fixture(scope="session")
def main(server: LiveServer) -> Any:
    """The user who owns the buckets of these tests. Unchecked, so that what is wrong on purpose reaches the server."""
    config = Config(signature_version="s3v4", parameter_validation=False)
    return server.client(aws_access_key_id=MAIN_KEY, aws_secret_access_key=SECRET, config=config)


@pytest.fixture(scope="session")
def alt(server: LiveServer) -> Any:
    """Another user, who owns nothing."""
    return server.client(aws_access_key_id=ALT_KEY, aws_secret_access_key=SECRET)


@pytest.fixture(scope="session")
def anonymous(server: LiveServer) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name=REGION,
        config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


@pytest.fixture
def new_bucket(main: Any) -> Callable[..., str]:
    """Makes a bucket of the main user and tells its name."""

    def make(**options: Any) -> str:
        name = f"test-{secrets.token_hex(8)}"
        main.create_bucket(Bucket=name, **options)
        return name

    return make


@pytest.fixture
def bucket(new_bucket: Callable[..., str]) -> str:
    return new_bucket()


@pytest.fixture
def versioned(new_bucket: Callable[..., str], main: Any) -> str:
    name = new_bucket()
    main.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name
