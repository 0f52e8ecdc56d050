"""`python small_parts.py COMMAND…`: the command line of `atoll`, of whichever release, that completes multipart uploads
of parts far below 5 MiB, so that a fixture with one stays small. Nothing else of the program is changed."""

from __future__ import annotations

from engine.store import ObjectStore
from gateway.wiring.main import main

SMALLEST = 1024

if __name__ == "__main__":
    defaults = ObjectStore.complete_upload.__kwdefaults__
    assert defaults is not None
    defaults["minimum_part"] = SMALLEST
    main()
