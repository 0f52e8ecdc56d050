"""What the verbs of the object store share, joined once by the façade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from catalog.interface import Catalog
from core.clock import Clock
from engine.bodies import Bodies
from engine.buckets import Buckets
from engine.keyring import Keyring
from engine.ports import CommitObserver


@dataclass(frozen=True, slots=True)
class Context:
    catalog: Catalog
    bodies: Bodies
    keyring: Keyring
    clock: Clock
    buckets: Buckets
    observers: Sequence[CommitObserver]
