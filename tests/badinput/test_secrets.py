"""Secrets are in the places made for them and nowhere else: not in logs, answers, metrics or readable files."""

from __future__ import annotations

import json
import re
import stat
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.s3.signature.keys import sign
from tests.badinput.wire import ROOT, Who, Wire, seed_of
from tests.harness.live_server import ROOT_SECRET, LiveServer, live_server

FORMATS = {"json": "plain = false", "plain": "plain = true"}


@pytest.mark.parametrize("form", FORMATS)
def test_no_secret_reaches_a_log_an_answer_or_the_metrics(tmp_path: Path, form: str) -> None:
    declared = Who("AKIADECLARED00000001", "declared/secret+of+the+file/000000000001", "7" * 64)
    config = f"""
[log]
level = "debug"
access = true
{FORMATS[form]}

[[users]]
name = "declared"
access_key_id = "{declared.access_key}"
secret_access_key = "{declared.secret}"
"""
    with live_server(tmp_path / "site", config=config) as server:
        wire = Wire(server.port)
        secrets = {ROOT_SECRET, declared.secret, (server.folder / "root.key").read_text().strip()}
        heard = exercise(server, wire, declared, secrets)
        with urllib.request.urlopen(f"{server.url}/-/metrics") as answer:
            heard.append(answer.read())
        said = [server.command(*words).stdout for words in (("status", "--json"), ("user", "list", "--json"))]
        said += [server.command("status").stdout, server.command("worker", "list", "--json").stdout]
        server.stop()
        log = "".join(server.output)
    assert len(log.splitlines()) > 10
    for secret in secrets:
        assert secret not in log, secret
        assert all(secret.encode() not in one for one in heard), secret
        assert all(secret not in one for one in said), secret


def exercise(server: LiveServer, wire: Wire, declared: Who, secrets: set[str]) -> list[bytes]:
    """Requests of every kind of success and failure; adds what must stay unseen to `secrets`. The answers."""
    client = server.client()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="k", Body=b"x")
    for version in ("get_object", "put_object"):
        url = urlsplit(client.generate_presigned_url(version, {"Bucket": "bucket", "Key": "k"}))
        target = f"{url.path}?{url.query}"
        found = re.search(r"Signature=([^&]+)", target)
        assert found is not None
        signature = found[1]
        secrets.add(signature)
        requests = [
            f"GET {target} HTTP/1.1\r\nHost: {wire.host}:{wire.port}\r\n\r\n",
            f"GET {target} and more HTTP/1.1\r\nHost: h\r\n\r\n",
            f"GET {target}{'x' * 20_000} HTTP/1.1\r\nHost: h\r\n\r\n",
            f"BAD {target} HTTP/1.1\r\nHost: h\r\n\r\n",
        ]
        answers = [wire.say(one.encode()).data for one in requests]
    head = wire.head("GET", "/bucket/k", who=declared)
    found = re.search(r"Signature=([0-9a-f]{64})", head.decode())
    assert found is not None
    secrets.add(found[1])
    answers.append(wire.say(head).data)
    answers.append(wire.say(head[:-2].replace(found[1].encode(), found[1].encode() + b"\x00") + b"\r\n").data)
    answers.append(wire.one("GET", "/bucket/k", who=Who(ROOT.access_key, "a/wrong/secret")).data)
    answers.append(wire.one("PUT", "/bucket/k?acl", b"<x>", who=ROOT).data)
    user = json.loads(server.command("user", "add", "made", "--json").stdout)
    secrets.add(user["secret_access_key"])
    rotated = server.command("keys", "rotate")
    assert rotated.returncode == 0, rotated.stderr
    secrets.add((server.folder / "root.key").read_text().strip())
    return answers


def test_signatures_of_failed_requests_are_shown_to_their_sender_alone(wire: Wire, server: LiveServer) -> None:
    """S3 answers a mismatch with what it computed from the request, never with the signature that would be right."""
    wrong = Who(ROOT.access_key, "a/wrong/secret")
    head = wire.head("GET", "/bucket/there", who=wrong)
    heard = wire.say(head)
    assert heard.code == "SignatureDoesNotMatch"
    shown = re.search(rb"<StringToSign>([^<]+)</StringToSign>", heard.data)
    assert shown is not None
    right = sign(seed_of(head, ROOT).key, shown[1].decode())
    accepted = re.sub(rb"Signature=[0-9a-f]{64}", b"Signature=" + right.encode(), head)
    assert wire.say(accepted).status == 200  # it is the right one, and was not told
    assert right.encode() not in heard.data.replace(b" ", b"")


def test_every_file_is_its_owners_alone(tmp_path: Path) -> None:
    unset = {"ATOLL_ACCESS_KEY_ID": "", "ATOLL_SECRET_ACCESS_KEY": ""}
    server = LiveServer(tmp_path / "site", env=unset)
    try:
        server.start()
        shown = re.search(r"AWS_ACCESS_KEY_ID=(\S+)\nexport AWS_SECRET_ACCESS_KEY=(\S+)", "".join(server.output))
        assert shown is not None
        client = server.client(aws_access_key_id=shown[1], aws_secret_access_key=shown[2])
        client.create_bucket(Bucket="bucket")
        for size in (10, 100_000, 3 << 20):
            client.put_object(Bucket="bucket", Key=str(size), Body=bytes(size))
        assert server.command("keys", "rotate").returncode == 0
        assert server.command("catalog", "backup", str(server.data / "backup")).returncode == 0
        found = [server.data, *server.data.rglob("*"), *server.folder.glob("root.key*")]
        assert len(found) > 30
        readable = [str(path) for path in found if stat.S_IMODE(path.lstat().st_mode) & 0o077]
        assert readable == []
        plain = [path for path in found if path.is_file() and path.name != "credentials"]
        assert [path for path in plain if shown[2].encode() in path.read_bytes()] == []
        server.stop()
        (server.data / "credentials").chmod(0o640)
        with pytest.raises(Exception, match="can be read by others"):
            server.start()
    finally:
        server.kill()


def test_root_key_and_user_secrets_are_not_in_the_data_folder(server: LiveServer, client: Any) -> None:
    made = json.loads(server.command("user", "add", "kept", "--json").stdout)
    key = (server.folder / "root.key").read_text().strip()
    hidden = [made["secret_access_key"].encode(), key.encode(), bytes.fromhex(key)]
    client.put_object(Bucket="bucket", Key="known", Body=b"a plaintext that must not lie around" * 400)
    client.put_object(Bucket="bucket", Key="small", Body=b"a plaintext that must not lie around")
    hidden.append(b"a plaintext that must not lie around")
    time.sleep(0.2)
    for path in server.data.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [one for one in hidden if one in content], path
    assert server.command("user", "remove", "kept").returncode == 0
