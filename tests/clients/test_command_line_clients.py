"""Round trips of the command line clients people already have."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from tests.clients.conftest import Run, peer, same_tree, system
from tests.harness.live_server import ROOT_KEY_ID, ROOT_SECRET, LiveServer


def test_aws_cli(run: Run, bucket: str, small_file: Path, large_file: Path, tree: Path, tmp_path: Path) -> None:
    aws = peer("awscli", "aws")
    run(aws, "s3", "cp", str(small_file), f"s3://{bucket}/dir/{small_file.name}")
    run(aws, "s3", "cp", str(large_file), f"s3://{bucket}/large.bin")
    run(aws, "s3", "cp", f"s3://{bucket}/large.bin", f"s3://{bucket}/copy.bin")
    run(aws, "s3", "cp", f"s3://{bucket}/copy.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == large_file.read_bytes()
    run(aws, "s3", "cp", f"s3://{bucket}/dir/{small_file.name}", str(tmp_path / "small.back"))
    assert (tmp_path / "small.back").read_bytes() == small_file.read_bytes()

    run(aws, "s3", "sync", str(tree), f"s3://{bucket}/tree")
    assert run(aws, "s3", "sync", str(tree), f"s3://{bucket}/tree").stdout == "", "a second sync has nothing to do"
    run(aws, "s3", "sync", f"s3://{bucket}/tree", str(tmp_path / "tree-back"))
    assert same_tree(tree, tmp_path / "tree-back")

    listing = run(aws, "s3", "ls", f"s3://{bucket}/").stdout
    assert "PRE tree/" in listing
    assert "large.bin" in listing
    run(aws, "s3", "mv", f"s3://{bucket}/copy.bin", f"s3://{bucket}/moved.bin")
    url = run(aws, "s3", "presign", f"s3://{bucket}/moved.bin").stdout.strip()
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == large_file.read_bytes()
    run(aws, "s3", "rm", "--recursive", f"s3://{bucket}/")
    run(aws, "s3", "rb", f"s3://{bucket}")
    assert bucket not in run(aws, "s3", "ls").stdout


def test_aws_cli_api(run: Run, bucket: str, small_file: Path) -> None:
    aws = peer("awscli", "aws")
    put = json.loads(
        run(
            aws, "s3api", "put-object", "--bucket", bucket, "--key", "k", "--body", str(small_file),
            "--checksum-algorithm", "SHA256", "--metadata", "one=1",
        ).stdout
    )  # fmt: skip
    head = json.loads(
        run(aws, "s3api", "head-object", "--bucket", bucket, "--key", "k", "--checksum-mode", "ENABLED").stdout
    )
    assert head["ETag"] == put["ETag"]
    assert head["ChecksumSHA256"] == put["ChecksumSHA256"]
    assert head["Metadata"] == {"one": "1"}
    refused = run(
        aws, "s3api", "put-object", "--bucket", bucket, "--key", "k", "--body", str(small_file),
        "--if-none-match", "*", check=False,
    )  # fmt: skip
    assert refused.returncode != 0
    assert "PreconditionFailed" in refused.stderr


def test_rclone(run: Run, server: LiveServer, bucket: str, large_file: Path, tree: Path, tmp_path: Path) -> None:
    rclone = peer("rclone", "rclone")
    (tmp_path / "rclone.conf").write_text(
        f"[atoll]\ntype = s3\nprovider = Other\naccess_key_id = {ROOT_KEY_ID}\nsecret_access_key = {ROOT_SECRET}\n"
        f"endpoint = {server.url}\nregion = us-east-1\nchunk_size = 5Mi\nupload_cutoff = 5Mi\n"
    )
    conf = ("--config", str(tmp_path / "rclone.conf"), "--retries", "1", "--low-level-retries", "1")
    run(rclone, *conf, "copy", str(tree), f"atoll:{bucket}/tree")
    run(rclone, *conf, "copyto", str(large_file), f"atoll:{bucket}/large.bin")
    run(rclone, *conf, "check", str(tree), f"atoll:{bucket}/tree")
    run(rclone, *conf, "check", "--download", str(tree), f"atoll:{bucket}/tree")
    run(rclone, *conf, "copyto", f"atoll:{bucket}/large.bin", f"atoll:{bucket}/server-side.bin")
    run(rclone, *conf, "copyto", f"atoll:{bucket}/server-side.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == large_file.read_bytes()
    listed = json.loads(run(rclone, *conf, "lsjson", "-R", "--files-only", f"atoll:{bucket}").stdout)
    assert len(listed) == 10
    run(rclone, *conf, "purge", f"atoll:{bucket}")
    assert bucket not in run(rclone, *conf, "lsd", "atoll:").stdout


def test_s3cmd(run: Run, server: LiveServer, bucket: str, large_file: Path, tree: Path, tmp_path: Path) -> None:
    s3cmd = peer("s3cmd", "s3cmd")
    host = server.url.removeprefix("http://")
    conf = (
        f"--access_key={ROOT_KEY_ID}", f"--secret_key={ROOT_SECRET}", f"--host={host}", f"--host-bucket={host}",
        "--no-ssl", "--multipart-chunk-size-mb=5", "--no-progress",
    )  # fmt: skip
    run(s3cmd, *conf, "put", str(large_file), f"s3://{bucket}/large.bin")
    run(s3cmd, *conf, "get", f"s3://{bucket}/large.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == large_file.read_bytes()
    run(s3cmd, *conf, "sync", f"{tree}/", f"s3://{bucket}/tree/")
    assert "large.bin" in run(s3cmd, *conf, "ls", f"s3://{bucket}/").stdout
    assert "MD5 sum" in run(s3cmd, *conf, "info", f"s3://{bucket}/tree/a.txt").stdout
    run(s3cmd, *conf, "cp", f"s3://{bucket}/tree/a.txt", f"s3://{bucket}/copied.txt")
    run(s3cmd, *conf, "setacl", "--acl-public", f"s3://{bucket}/copied.txt")
    with urllib.request.urlopen(f"{server.url}/{bucket}/copied.txt") as answer:
        assert answer.read() == (tree / "a.txt").read_bytes()
    run(s3cmd, *conf, "del", "--recursive", "--force", f"s3://{bucket}/")
    run(s3cmd, *conf, "rb", f"s3://{bucket}")


def test_s5cmd(run: Run, server: LiveServer, bucket: str, large_file: Path, tree: Path, tmp_path: Path) -> None:
    s5cmd = (peer("s5cmd", "s5cmd"), "--endpoint-url", server.url)
    run(*s5cmd, "cp", "--part-size", "5", str(large_file), f"s3://{bucket}/large.bin")
    run(*s5cmd, "cp", f"{tree}/", f"s3://{bucket}/tree/")
    run(*s5cmd, "cp", f"s3://{bucket}/large.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == large_file.read_bytes()
    run(*s5cmd, "cp", f"s3://{bucket}/tree/a.txt", str(tmp_path / "a.back"))
    assert (tmp_path / "a.back").read_bytes() == (tree / "a.txt").read_bytes()
    run(*s5cmd, "cp", f"s3://{bucket}/tree/*", str(tmp_path / "tree-back") + "/")
    assert same_tree(tree, tmp_path / "tree-back")
    assert len(run(*s5cmd, "ls", f"s3://{bucket}/*").stdout.splitlines()) == 9
    run(*s5cmd, "rm", f"s3://{bucket}/*")
    run(*s5cmd, "rb", f"s3://{bucket}")


def test_restic(run: Run, client_env: dict[str, str], server: LiveServer, bucket: str, tree: Path, large_file: Path,
                tmp_path: Path) -> None:  # fmt: skip
    restic = system("restic")
    client_env["RESTIC_REPOSITORY"] = f"s3:{server.url}/{bucket}/repository"
    client_env["RESTIC_PASSWORD"] = "correct horse"
    run(restic, "init")
    run(restic, "backup", str(tree), str(large_file))
    (tree / "a.txt").write_bytes(b"changed")
    run(restic, "backup", str(tree), str(large_file))
    run(restic, "check", "--read-data")
    run(restic, "restore", "latest", "--target", str(tmp_path / "restored"))
    restored = tmp_path / "restored" / str(tree).lstrip("/")
    assert same_tree(tree, restored)
    run(restic, "forget", "--keep-last", "1", "--prune")
    run(restic, "check", "--read-data")
