"""Bodies: immutable runs of bytes, each with its own id and key."""

from __future__ import annotations

from engine.bodies.interface import MAX_FETCH, Bodies, BodyRef, Known, Pin, StoredBody

__all__ = ["MAX_FETCH", "Bodies", "BodyRef", "Known", "Pin", "StoredBody"]
