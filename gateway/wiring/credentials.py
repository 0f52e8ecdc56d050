"""The root user's access key: from the settings, or made at first start. It is kept in the data folder, or, where
gateways share a catalog, sealed in the catalog, so that it is the same at all of them. What lies in the data folder is
noted in the catalog, sealed too, for whoever restores that when the folder is lost."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from accounts.types import AccessKey, SecretWrapper, new_access_key
from catalog.interface import Catalog, Reader, Transaction
from catalog.prefixes import GATEWAY
from core.errors import StartRefused
from gateway.wiring.secret_files import read_secret, write_secret
from gateway.wiring.settings import Settings

NAME = "credentials"
_KEY = GATEWAY + b"root-access-key"
_NOTED = GATEWAY + b"root-access-key/noted"
_CONTEXT = b"atoll/root-access-key/1"


@dataclass(frozen=True)
class RootCredentials:
    """The pair in use; `fresh` when it was made just now and is to be shown once."""

    key: AccessKey
    fresh: bool = False


async def root_credentials(
    settings: Settings, catalog: Catalog, wrapper: SecretWrapper, now_us: int
) -> RootCredentials:
    """Settings win; else what is kept, made when missing. Raises StartRefused for a broken file."""
    if settings.access_key_id:
        return RootCredentials(AccessKey(settings.access_key_id, settings.secret_access_key.reveal()))
    path = settings.data / NAME
    key = new_access_key(now_us)
    if not catalog.local:
        return await _shared(path, catalog, wrapper, key)
    if (stored := await catalog.read(_stored)) is not None:
        _replace(path, wrapper.unwrap(stored, _CONTEXT))
        await _take(catalog)
    fresh = not path.exists()
    if fresh:
        write_secret(path, _text(key))
    own = RootCredentials(_parse(path, read_secret(path)), fresh)
    await _note(catalog, wrapper, _text(own.key))
    return own


async def _shared(path: Path, catalog: Catalog, wrapper: SecretWrapper, new: AccessKey) -> RootCredentials:
    """The pair that the catalog keeps. At first: of the file, where the catalog was in this data folder before; the one
    that was noted, where it was in another; a new one."""
    text = b""
    with contextlib.suppress(FileNotFoundError):
        text = read_secret(path)
        _parse(path, text)
    own, made = wrapper.wrap(text, _CONTEXT) if text else b"", wrapper.wrap(_text(new), _CONTEXT)

    async def keep(txn: Transaction) -> bytes:
        kept, noted = await txn.get_many([_KEY, _NOTED])
        if kept is None:
            kept = own or noted or made
            txn.put(_KEY, kept)
        return kept

    found = _parse(path, wrapper.unwrap(await catalog.transact(keep), _CONTEXT))
    return RootCredentials(found, fresh=found.id == new.id)


async def restore_credentials(data: Path, catalog: Catalog, wrapper: SecretWrapper) -> None:
    """Make the file of a lost data folder again, from what its catalog noted. Where it is still there, it stays."""

    async def get(reader: Reader) -> bytes | None:
        return await reader.get(_NOTED)

    noted = await catalog.read(get)
    if noted is not None and not (data / NAME).exists():
        write_secret(data / NAME, wrapper.unwrap(noted, _CONTEXT))


async def _note(catalog: Catalog, wrapper: SecretWrapper, text: bytes) -> None:
    sealed = wrapper.wrap(text, _CONTEXT)

    async def put(txn: Transaction) -> None:
        noted = await txn.get(_NOTED)
        if noted is None or wrapper.unwrap(noted, _CONTEXT) != text:
            txn.put(_NOTED, sealed)

    await catalog.transact(put)


def _replace(path: Path, text: bytes) -> None:
    """Keep what the catalog brought from elsewhere in the file, as if it had been made here."""
    with contextlib.suppress(FileNotFoundError):
        if read_secret(path) == text:
            return
        path.unlink()  # of a time before the catalog was elsewhere
    write_secret(path, text)


async def _take(catalog: Catalog) -> None:
    async def take(txn: Transaction) -> None:
        txn.delete(_KEY)

    await catalog.transact(take)


def _text(key: AccessKey) -> bytes:
    return f"access_key_id = {key.id}\nsecret_access_key = {key.secret}\n".encode()


async def _stored(reader: Reader) -> bytes | None:
    return await reader.get(_KEY)


def _parse(path: Path, content: bytes) -> AccessKey:
    fields: dict[str, str] = {}
    for line in content.decode("utf-8", "replace").splitlines():
        name, equals, value = line.partition("=")
        if equals:
            fields[name.strip()] = value.strip()
    if not fields.get("access_key_id") or not fields.get("secret_access_key"):
        raise StartRefused(f"{path} does not hold access_key_id and secret_access_key; remove it to make a new pair")
    return AccessKey(fields["access_key_id"], fields["secret_access_key"])


def example(endpoint: str, region: str, key: AccessKey) -> str:
    """What to paste into a shell to use the server with the AWS command line."""
    return (
        f"export AWS_ACCESS_KEY_ID={key.id}\n"
        f"export AWS_SECRET_ACCESS_KEY={key.secret}\n"
        f"export AWS_DEFAULT_REGION={region}\n"
        f"export AWS_ENDPOINT_URL={endpoint}\n"
        "aws s3 mb s3://first && echo hello | aws s3 cp - s3://first/hello && aws s3 ls s3://first\n"
    )
