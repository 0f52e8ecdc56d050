"""One server for the round trips, and the programs that drive it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tests.harness.live_server import REGION, ROOT_KEY_ID, ROOT_SECRET, LiveServer, live_server

PEERS = Path(__file__).resolve().parents[2] / ".peers"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def need(path: Path | str | None, name: str) -> str:
    """The program's path. Missing: skipped aloud on a user's machine, an error in CI."""
    if path is not None and Path(path).exists():
        return str(path)
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not installed: run `make peers`")
    pytest.skip(f"{name} is not installed: run `make peers`")


def peer(environment: str, program: str = "python") -> str:
    return need(PEERS / environment / "bin" / program, program if program != "python" else environment)


def system(program: str) -> str:
    return need(shutil.which(program), program)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("clients")) as running:
        yield running


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ca.pem`, `cert.pem` and `key.pem` for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1", "*.localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    (folder / "cert.pem").write_bytes(chain)
    return folder


@pytest.fixture(scope="session")
def tls_server(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[LiveServer]:
    env = {
        "ATOLL_TLS_CERTIFICATE": str(certificates / "cert.pem"),
        "ATOLL_TLS_KEY": str(certificates / "key.pem"),
    }
    with live_server(tmp_path_factory.mktemp("clients-tls"), env=env) as running:
        yield running


@pytest.fixture
def client_env(server: LiveServer, tmp_path: Path) -> dict[str, str]:
    """What every client finds in its environment: keys, region, endpoint, and a home of its own."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": ROOT_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": ROOT_SECRET,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": server.url,
        "ENDPOINT": server.url,
        "LANG": "C.UTF-8",
    }


@pytest.fixture
def run(client_env: dict[str, str], tmp_path: Path) -> Run:
    """Run a client to its end; a non-zero exit is the test's failure, with what it printed."""

    def runner(*command: str, timeout: float = 90, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=client_env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(command)}\nexit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done

    return runner


@pytest.fixture
def bucket(server: LiveServer, request: pytest.FixtureRequest) -> str:
    """A bucket of this test's own."""
    digest = f"{random.Random(request.node.nodeid).getrandbits(40):010x}"
    name = f"trip-{digest}"
    server.client().create_bucket(Bucket=name)
    return name


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    path = tmp_path / "small file+1.bin"
    path.write_bytes(random.Random(1).randbytes(5))
    return path


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    """Several multipart parts, with a ragged end."""
    path = tmp_path / "large.bin"
    path.write_bytes(random.Random(2).randbytes(21 * 1024 * 1024 + 12_345))
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small source tree: nested folders, odd names, an empty file."""
    folder = tmp_path / "tree"
    seeded = random.Random(3)
    names = ("a.txt", "b/c.txt", "b/d/e f.txt", "b/d/ü+%41.txt", "empty", "z/0", "z/1", "z/2")
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty" else seeded.randbytes(3000))
    return folder


def same_tree(left: Path, right: Path) -> bool:
    """Whether two folders hold the same files with the same bytes."""

    def content(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return content(left) == content(right)
