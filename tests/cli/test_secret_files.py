"""Files of secrets are whole or absent: a half-written root key would lock everybody out."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from core.errors import StartRefused
from gateway.wiring.root_key import RootKeyFile
from gateway.wiring.secret_files import read_secret, write_secret


def test_a_secret_is_private_durable_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    before = os.umask(0)
    try:
        write_secret(path, b"first")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        write_secret(path, b"second")
    assert read_secret(path) == b"first"
    assert [one.name for one in tmp_path.iterdir()] == ["secret"]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_disk_that_fails_leaves_no_half_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    key = RootKeyFile(tmp_path / "root.key")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space left"):
            key.make()
    assert list(tmp_path.iterdir()) == []
    assert key.make().key_id == key.read().key_id


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_secret(path, b"x")
    for mode in (0o640, 0o604, 0o644):
        path.chmod(mode)
        with pytest.raises(StartRefused, match="can be read by others"):
            read_secret(path)
