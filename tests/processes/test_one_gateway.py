"""Several processes are one gateway: who connects can't tell which of them answers."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from gateway.admin.client import AdminClient
from tests.harness.live_server import ServerFailed, alive
from tests.processes.family import COUNT, Family, kill

BUCKET = "bucket"
EVERYWHERE = 5.0  # seconds; what is promised is 1 s, on a machine that does nothing else


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    server = Family(tmp_path_factory.mktemp("family"))
    try:
        server.start()
        client = server.client()
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield server
    finally:
        server.kill()


@pytest.fixture
def each(family: Family) -> Iterator[list[Any]]:
    """A client of each process: one connection, which stays."""
    family.wait_until_whole()

    def connections() -> list[int]:
        return [family.connections(pid) for pid in (family.pid, *family.guests())]

    within(EVERYWHERE, lambda: connections() == [0] * COUNT)  # those of the test before are gone
    clients = [family.client(config=Config(max_pool_connections=1)) for _ in range(COUNT)]
    for client in clients:
        client.list_buckets()
    # A guest may have answered before the host has let go of the connection that it handed over.
    within(EVERYWHERE, lambda: connections() == [1] * COUNT)
    yield clients
    for client in clients:
        client.close()


def within(seconds: float, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.02)


def code(call: Callable[[], Any]) -> str:
    """The error code of a call, "" for none."""
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def test_what_one_has_acknowledged_all_show_at_once(each: list[Any]) -> None:
    for turn in range(60):
        writer = each[turn % COUNT]
        body = os.urandom((100, 20_000, 2 << 20)[turn // COUNT % 3])
        writer.put_object(Bucket=BUCKET, Key="key", Body=body)
        for reader in each:
            assert reader.get_object(Bucket=BUCKET, Key="key")["Body"].read() == body
            assert reader.list_objects_v2(Bucket=BUCKET, Prefix="key")["Contents"][0]["Size"] == len(body)
        each[(turn + 1) % COUNT].delete_object(Bucket=BUCKET, Key="key")
        assert [code(partial(reader.head_object, Bucket=BUCKET, Key="key")) for reader in each] == ["404"] * COUNT


def test_of_many_that_create_at_once_one_wins(each: list[Any]) -> None:
    for number in range(20):
        outcomes: list[str] = []

        def create(client: Any, key: str = f"new/{number}", outcomes: list[str] = outcomes) -> None:
            outcomes.append(code(lambda: client.put_object(Bucket=BUCKET, Key=key, Body=b"x", IfNoneMatch="*")))

        threads = [threading.Thread(target=create, args=(client,)) for client in each]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) in (["", *["PreconditionFailed"] * (COUNT - 1)], ["", *_lost(outcomes)])


def _lost(outcomes: list[str]) -> list[str]:
    """S3's two ways of telling the losers of such a race."""
    return sorted(one for one in outcomes if one in ("PreconditionFailed", "ConditionalRequestConflict"))


def test_a_multipart_upload_may_use_all(each: list[Any]) -> None:
    upload = each[0].create_multipart_upload(Bucket=BUCKET, Key="parts")["UploadId"]
    named = {"Bucket": BUCKET, "Key": "parts", "UploadId": upload}
    bodies = [os.urandom(5 << 20) for _ in range(COUNT)]
    parts = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(Bucket=BUCKET, Key="parts", UploadId=upload, PartNumber=number, Body=body)[
                "ETag"
            ],
        }
        for number, (client, body) in enumerate(zip(each, bodies, strict=True), 1)
    ]
    each[-1].complete_multipart_upload(**named, MultipartUpload={"Parts": parts})
    assert all(client.get_object(Bucket=BUCKET, Key="parts")["Body"].read() == b"".join(bodies) for client in each)


def test_a_removed_user_and_a_closed_bucket_are_so_everywhere(family: Family, each: list[Any]) -> None:
    admin = AdminClient(family.data)
    user = admin.call("POST", "/users", {"name": "mayfly"})
    own = {"aws_access_key_id": user["access_key_id"], "aws_secret_access_key": user["secret_access_key"]}
    mayflies = [family.client(**own) for _ in range(COUNT)]
    strangers = [family.client(config=Config(signature_version=UNSIGNED)) for _ in range(COUNT)]
    within(EVERYWHERE, lambda: [code(client.list_buckets) for client in mayflies] == [""] * COUNT)
    admin.call("DELETE", "/users", name="mayfly")
    within(EVERYWHERE, lambda: [code(client.list_buckets) for client in mayflies] == ["InvalidAccessKeyId"] * COUNT)
    listings = [partial(client.list_objects_v2, Bucket=BUCKET) for client in strangers]
    each[1].put_bucket_acl(Bucket=BUCKET, ACL="public-read")
    within(EVERYWHERE, lambda: [code(listing) for listing in listings] == [""] * COUNT)
    each[1].put_bucket_acl(Bucket=BUCKET, ACL="private")
    within(EVERYWHERE, lambda: [code(listing) for listing in listings] == ["AccessDenied"] * COUNT)


def test_metrics_are_of_all_whichever_is_asked(family: Family, each: list[Any]) -> None:
    def seen() -> list[float]:
        found = []
        for _ in range(COUNT):
            with urllib.request.urlopen(f"{family.url}/-/metrics", timeout=10) as page:
                text = page.read().decode()
            assert text.endswith("# EOF\n")
            counts = re.findall(
                r'^atoll_request_seconds_count\{operation="HeadBucket",status="200"\} (\S+)$', text, re.M
            )
            buckets = re.findall(r'^atoll_request_seconds_bucket\{.*operation="HeadBucket".*\} (\S+)', text, re.M)
            assert [float(count) for count in buckets] == sorted(float(count) for count in buckets)
            assert text.count('atoll_node_up{node="disk-1"} 1.0') == 1
            found.append(float(counts[0]) if counts else 0.0)
        return found

    before = seen()
    for client in each:
        for _ in range(5):
            client.head_bucket(Bucket=BUCKET)
    assert seen() == [before[0] + 5 * COUNT] * COUNT


def test_metrics_may_be_asked_for_by_many_at_once(family: Family) -> None:
    def ask(_: int) -> bool:
        with urllib.request.urlopen(f"{family.url}/-/metrics", timeout=10) as page:
            return bool(page.read().endswith(b"# EOF\n"))

    with ThreadPoolExecutor(4 * COUNT) as askers:
        assert all(askers.map(ask, range(20 * COUNT)))


def test_status_tells_of_one_gateway_and_how_many_processes(family: Family, each: list[Any]) -> None:
    told = AdminClient(family.data).call("GET", "/status")
    assert told["processes"] == COUNT
    assert [gateway["endpoint"] for gateway in told["gateways"]] == [family.url]
    assert f"{COUNT} processes" in family.command("status").stdout.splitlines()[0]


def test_a_new_root_key_is_in_force_at_all(family: Family, each: list[Any]) -> None:
    each[1].put_object(Bucket=BUCKET, Key="before", Body=b"kept")
    former = family.guests()
    done = family.command("keys", "rotate")
    assert done.returncode == 0, done.stderr
    family.wait_until_whole()
    assert not set(former) & set(family.guests())
    for number in range(COUNT):
        client = family.client()
        client.create_bucket(Bucket=f"after-rotation-{number}")
        client.put_object(Bucket=f"after-rotation-{number}", Key="key", Body=b"new")
        assert client.get_object(Bucket=BUCKET, Key="before")["Body"].read() == b"kept"


def test_rewriting_the_catalogs_file_disturbs_nobody(family: Family, each: list[Any]) -> None:
    stop = threading.Event()
    problems: list[BaseException] = []
    done = [0] * COUNT

    def work(number: int) -> None:
        client, sent = each[number], 0
        try:
            while not stop.is_set():
                sent += 1
                client.put_object(Bucket=BUCKET, Key=f"busy/{number}", Body=str(sent).encode())
                assert client.get_object(Bucket=BUCKET, Key=f"busy/{number}")["Body"].read() == str(sent).encode()
                done[number] = sent
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(COUNT)]
    for thread in threads:
        thread.start()
    try:
        inode = (family.data / "catalog" / "data.mdb").stat().st_ino
        for _ in range(5):
            AdminClient(family.data).call("POST", "/workers/catalog-repack/run")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not problems
    assert all(done)
    assert (family.data / "catalog" / "data.mdb").stat().st_ino != inode
    for client in each:
        assert [
            int(client.get_object(Bucket=BUCKET, Key=f"busy/{number}")["Body"].read()) for number in range(COUNT)
        ] == done


def test_a_process_that_is_killed_is_replaced_and_the_others_go_on(family: Family, each: list[Any]) -> None:
    doomed = family.guests()[0]
    kill(doomed)
    broken = 0
    for client in each:
        try:
            client.head_bucket(Bucket=BUCKET)
        except (BotoCoreError, ClientError):
            broken += 1
    assert broken <= 1  # its own
    family.wait_until_whole()
    assert doomed not in family.guests()


def test_a_process_that_hangs_gets_no_connections_until_it_answers_again(family: Family, each: list[Any]) -> None:
    hung = family.guests()[0]

    def told(what: str) -> bool:
        return any(what in line and f'"pid":{hung}' in line for line in family.output)

    os.kill(hung, signal.SIGSTOP)
    try:
        within(10, lambda: told("hangs"))
        for _ in range(2 * COUNT):
            with contextlib.closing(
                family.client(config=Config(read_timeout=3, retries={"total_max_attempts": 1}))
            ) as one:
                one.list_buckets()
    finally:
        os.kill(hung, signal.SIGCONT)
    within(10, lambda: told("answers again"))
    family.wait_until_whole()
    assert hung in family.guests()


def test_when_the_host_is_killed_no_process_stays(family: Family) -> None:
    family.client().put_object(Bucket=BUCKET, Key="acknowledged", Body=b"kept")
    guests = family.guests()
    assert len(guests) == COUNT - 1
    kill(family.pid)
    within(5, lambda: not any(map(alive, guests)))
    family.kill()
    family.start()
    family.wait_until_whole()
    for _ in range(COUNT):
        assert family.client().get_object(Bucket=BUCKET, Key="acknowledged")["Body"].read() == b"kept"


def test_an_end_in_order_cuts_nobody_off(tmp_path: Path) -> None:
    family = Family(tmp_path)
    family.start()
    body = os.urandom(24 << 20)
    clients = [family.client() for _ in range(2 * COUNT)]
    clients[0].create_bucket(Bucket=BUCKET)
    clients[0].put_object(Bucket=BUCKET, Key="large", Body=body)
    answers = [client.get_object(Bucket=BUCKET, Key="large") for client in clients]
    guests = family.guests()
    stopped: list[int] = []
    ending = threading.Thread(target=lambda: stopped.append(family.stop()))
    ending.start()
    time.sleep(0.5)
    assert all(answer["Body"].read() == body for answer in answers)
    ending.join()
    assert stopped == [0]
    assert not any(map(alive, guests))
    assert not [line for line in family.output if '"error"' in line or "Traceback" in line]


def test_tls_and_a_renewed_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()

    def issue() -> None:
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(tmp_path / "key.pem")
        issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")

    issue()
    names = f'certificate = "{tmp_path / "cert.pem"}"\nkey = "{tmp_path / "key.pem"}"'
    family = Family(tmp_path / "server", config=f'[tls]\n{names}\nreload_interval = "1h"\n')
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def served() -> set[bytes]:
        """The certificates of so many connections as there are processes."""
        found = set()
        for _ in range(COUNT):
            with _connect(family.port, context) as connection:
                certificate = connection.getpeercert(binary_form=True)
                assert certificate is not None
                found.add(certificate)
        return found

    family.start()
    try:
        family.client(verify=_bundle(authority, tmp_path)).list_buckets()
        first = served()
        assert len(first) == 1
        issue()
        os.kill(family.pid, signal.SIGHUP)
        within(10, lambda: len(served()) == 1 and served() != first)
    finally:
        family.kill()


def _connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1")


def _bundle(authority: trustme.CA, folder: Path) -> str:
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return str(folder / "ca.pem")


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"ATOLL_PROCESSES": "-1"}, "processes must be from 0 to"),
        ({"ATOLL_PROCESSES": "1000"}, "processes must be from 0 to"),
        ({"ATOLL_PROCESSES": "two"}, "processes"),
        ({"ATOLL_PROCESSES": "2", "ATOLL_CATALOG": "postgresql://127.0.0.1/x"}, "start more gateways instead"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path: Path, env: dict[str, str], reason: str) -> None:
    family = Family(tmp_path)
    family.extra.update(env)
    with pytest.raises(ServerFailed, match=reason):
        family.start()
    assert not family.data.exists()


def test_what_is_made_while_the_root_key_is_rotated_is_known_to_all(family: Family, each: list[Any]) -> None:
    """A process that has the former root key only could not open the keys of buckets that another one makes then."""
    admin = AdminClient(family.data)
    ended = threading.Event()

    def rotate() -> None:
        try:
            for _ in range(3):
                for _ in admin.stream("POST", "/keys/rotate"):
                    pass
        finally:
            ended.set()

    rotating = threading.Thread(target=rotate)
    rotating.start()
    made = 0
    try:
        while not ended.is_set():
            made += 1
            name = f"made-{made}"
            each[made % COUNT].create_bucket(Bucket=name)
            for client in each:
                client.put_object(Bucket=name, Key="key", Body=name.encode() * 500)
                assert client.get_object(Bucket=name, Key="key")["Body"].read() == name.encode() * 500
    finally:
        rotating.join()
    assert made > 10
    family.wait_until_whole()


def test_a_user_that_was_just_added_is_known_to_all(family: Family) -> None:
    """Also where a process has looked at the feed of users a moment ago."""
    family.wait_until_whole()
    admin = AdminClient(family.data)
    for number in range(10):
        user = admin.call("POST", "/users", {"name": f"user-{number}"})
        keys = {"aws_access_key_id": user["access_key_id"], "aws_secret_access_key": user["secret_access_key"]}
        clients = [family.client(**keys) for _ in range(COUNT)]
        assert [code(client.list_buckets) for client in clients] == [""] * COUNT
        for client in clients:
            client.close()
