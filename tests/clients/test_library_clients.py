"""Round trips of the libraries that applications embed. Each script runs in the library's own environment."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from tests.clients.conftest import PEERS, Run, need, peer, system
from tests.harness.live_server import REGION, ROOT_KEY_ID, ROOT_SECRET, LiveServer

SCRIPTS = Path(__file__).parent / "scripts"


@pytest.mark.parametrize(
    ("environment", "script"),
    [
        ("s3fs", "s3fs_trip.py"),
        ("libraries", "pyarrow_trip.py"),
        ("libraries", "duckdb_trip.py"),
        ("libraries", "obstore_trip.py"),
        ("libraries", "minio_trip.py"),
    ],
)
def test_python_library(run: Run, bucket: str, large_file: Path, environment: str, script: str) -> None:
    done = run(peer(environment), str(SCRIPTS / script), bucket, str(large_file))
    assert done.stdout.strip().endswith("round trip complete"), done.stdout


def test_javascript_sdk(run: Run, bucket: str, large_file: Path, tmp_path: Path) -> None:
    node = system("node")
    need(PEERS / "js" / "node_modules" / "@aws-sdk" / "client-s3", "the JavaScript SDK")
    script = PEERS / "js" / "trip.mjs"
    shutil.copy(SCRIPTS / "sdk_trip.mjs", script)  # modules resolve from the script's own folder
    done = run(node, str(script), bucket, str(large_file))
    assert done.stdout.strip().endswith("round trip complete"), done.stdout


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_boto3(scheme: str, request: pytest.FixtureRequest, large_file: Path, tmp_path: Path) -> None:
    """Over https the SDK sends unsigned chunk streams with a trailer and no Content-Length."""
    server: LiveServer = request.getfixturevalue("server" if scheme == "http" else "tls_server")
    verify = None if scheme == "http" else str(request.getfixturevalue("certificates") / "ca.pem")
    client = boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name=REGION,
        aws_access_key_id=ROOT_KEY_ID,
        aws_secret_access_key=ROOT_SECRET,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        verify=verify,
    )
    client.create_bucket(Bucket="boto-trip")
    transfer = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=5 << 20)
    client.upload_file(str(large_file), "boto-trip", "large", Config=transfer)
    client.download_file("boto-trip", "large", str(tmp_path / "back"), Config=transfer)
    assert (tmp_path / "back").read_bytes() == large_file.read_bytes()
    client.copy({"Bucket": "boto-trip", "Key": "large"}, "boto-trip", "copy", Config=transfer)
    with large_file.open("rb") as stream:
        client.put_object(Bucket="boto-trip", Key="streamed", Body=stream, Metadata={"who": "me"})
    head = client.head_object(Bucket="boto-trip", Key="streamed", ChecksumMode="ENABLED")
    assert head["ContentLength"] == large_file.stat().st_size
    assert head["ChecksumCRC32"]
    assert head["Metadata"] == {"who": "me"}
    assert "ContentEncoding" not in head
    for key in ("copy", "streamed"):
        assert client.get_object(Bucket="boto-trip", Key=key)["Body"].read() == large_file.read_bytes()
    keys = [{"Key": entry["Key"]} for entry in client.list_objects_v2(Bucket="boto-trip")["Contents"]]
    assert len(keys) == 3
    assert len(client.delete_objects(Bucket="boto-trip", Delete={"Objects": keys})["Deleted"]) == 3
    client.delete_bucket(Bucket="boto-trip")


def test_versions_of_the_clients_are_recorded(run: Run) -> None:
    """The table in the documentation names the versions that were run."""
    documented = (Path(__file__).resolve().parents[2] / "docs" / "compatibility.md").read_text()
    pins = [
        line for path in (Path(__file__).parent / "requirements").glob("*.txt") for line in path.read_text().split()
    ]
    package = json.loads((Path(__file__).parent / "js" / "package.json").read_text())
    pins += [f"{name}=={version}" for name, version in package["dependencies"].items()]
    missing = [pin for pin in pins if pin.replace("==", " ") not in documented]
    assert not missing, f"docs/compatibility.md does not name {missing}"
