"""What the verbs of the object store share, joined once by the façade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from catalog.interface import Catalog, Glance
from core.clock import Clock
from engine.bodies import Bodies
from engine.buckets import Buckets
from engine.keyring import Keyring
from engine.ports import CommitObserver


@dataclass(frozen=True, slots=True)
class Context:
    catalog: Catalog
    glance: Glance | None  # of the catalog, where it offers that
    bodies: Bodies
    keyring: Keyring
    clock: Clock
    buckets: Buckets
    observers: Sequence[CommitObserver]
