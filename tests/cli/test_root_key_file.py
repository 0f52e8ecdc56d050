"""What `atoll keys export` may show: the key in force and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import StartRefused
from engine.keyring import LocalKeyWrapper
from gateway.wiring.root_key import RootKeyFile
from gateway.wiring.secret_files import write_secret


def test_the_key_in_force_is_exported_however_it_lies_in_its_file(tmp_path: Path) -> None:
    for name, content, root in (("hex", b"ab" * 32 + b"\n", b"\xab" * 32), ("raw", b"\xff" * 32, b"\xff" * 32)):
        write_secret(tmp_path / name, content)
        assert RootKeyFile(tmp_path / name).text(LocalKeyWrapper(root).key_id) == root.hex()


def test_a_key_that_is_not_in_force_is_not_exported(tmp_path: Path) -> None:
    """As after a rotation that changed the catalog over and failed before the files followed."""
    files = RootKeyFile(tmp_path / "key")
    old = files.make()
    new = files.make_next()
    with pytest.raises(StartRefused, match="does not hold"):
        files.text(new.key_id)
    files.advance(old)
    assert LocalKeyWrapper(bytes.fromhex(files.text(new.key_id))).key_id == new.key_id
    assert files.path.with_name(f"key.{old.key_id}").exists()
