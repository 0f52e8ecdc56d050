"""A catalog in memory, a real AEAD wrapper and the store and directory over them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from accounts.directory import Directory
from accounts.types import AccessKey, User
from accounts.users import UserStore
from catalog.interface import Catalog
from catalog.memory import MemoryCatalog
from core.access import PrincipalKind
from core.clock import SystemClock


class SealingWrapper:
    """AES-256-GCM under one key, as the engine's wrapper does."""

    def __init__(self) -> None:
        self._cipher = AESGCM(AESGCM.generate_key(256))

    def wrap(self, key: bytes, context: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        return self._cipher.decrypt(wrapped[:12], wrapped[12:], context)


ROOT = User("0" * 64, "root", keys=(AccessKey("ROOTKEY", "root-secret"),), kind=PrincipalKind.ROOT, declared=True)
DECLARED = User("a" * 64, "carol", "carol@example.com", (AccessKey("CAROLKEY", "carol-secret"),), declared=True)


@pytest.fixture
def wrapper() -> SealingWrapper:
    return SealingWrapper()


@pytest.fixture
async def catalog() -> AsyncIterator[Catalog]:
    memory = MemoryCatalog()
    yield memory
    await memory.close()


@pytest.fixture
def users(catalog: Catalog, wrapper: SealingWrapper) -> UserStore:
    return UserStore(catalog, wrapper, SystemClock(), (ROOT, DECLARED))


@pytest.fixture
async def directory(catalog: Catalog, wrapper: SealingWrapper) -> AsyncIterator[Directory]:
    opened = Directory(catalog, wrapper, (ROOT, DECLARED))
    await opened.start()
    yield opened
    await opened.close()
