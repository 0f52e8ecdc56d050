"""Load on two buckets of a server, one that keeps versions and one that doesn't, while faults happen to it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from tests.harness.gateways import KeepingLoad, PlainLoad
from tests.harness.history import settle
from tests.harness.load import History
from tests.harness.versioned import Versions, settle_versions

PLAIN, KEEPING = "plain", "keeping"


class TwoBuckets:
    """What clients were answered, and the check that it fits one order of the operations on each key.

    `server` is what gives clients; `wait_until_well` returns when the faults of a round are over.
    """

    def __init__(self, server: Any, seeded: random.Random, wait_until_well: Callable[[], None]) -> None:
        self._server, self._seeded, self._wait_until_well = server, seeded, wait_until_well
        self._plain, self._versions = History(), Versions()
        self.faults: list[str] = []
        self._refused = 0

    def make(self) -> None:
        """The buckets."""
        client = self._server.client()
        client.create_bucket(Bucket=PLAIN)
        client.create_bucket(Bucket=KEEPING)
        client.put_bucket_versioning(Bucket=KEEPING, VersioningConfiguration={"Status": "Enabled"})

    def round(self, *faults: Callable[[], None]) -> None:
        """Load, with faults that follow one another, until all is well again; then look at every key."""
        loads = [
            kind(self._server, history, seed=self._seeded.getrandbits(60), bucket=bucket, threads=4)
            for kind, history, bucket in ((PlainLoad, self._plain, PLAIN), (KeepingLoad, self._versions, KEEPING))
        ]
        for load in loads:
            load.start()
        try:
            time.sleep(1)
            for fault in faults:
                fault()
                time.sleep(self._seeded.uniform(0.3, 2))
            self._wait_until_well()
            time.sleep(1)
        finally:
            for load in loads:
                load.stop()
        for load in loads:
            self._refused += load.unavailable
            assert not load.unexpected, load.unexpected[:5]
        self.check()

    def check(self) -> None:
        """Every answer fits what is there."""
        self._plain = settle(self._server, PLAIN, self._plain)
        self._versions = settle_versions(self._server, KEEPING, self._versions)

    @property
    def answered(self) -> int:
        return self._plain.acknowledged + self._versions.acknowledged

    def figures(self) -> str:
        unknown = self._plain.unknown + self._versions.unknown
        return (
            f"{len(self.faults)} faults ({', '.join(self.faults)}): {self.answered} operations answered, {unknown} "
            f"without an answer, {self._refused} refused with 503"
        )
