"""The suite that every backend passes, ours and anybody's. It needs no test framework; pytest collects it as it is."""

from __future__ import annotations

from backends.conformance.sources import BytesSource, FailingSource, StalledSource
from backends.conformance.suite import BackendConformance

__all__ = ["BackendConformance", "BytesSource", "FailingSource", "StalledSource"]
