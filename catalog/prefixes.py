"""The first byte of every key: who owns the row. One line a room, never reused."""

from __future__ import annotations

META = b"\x01"  # catalog: format, deployment id, key check value, sequence
FEED = b"\x02"  # catalog: change feed
LEASE = b"\x03"  # catalog: leases and fencing tokens
EPOCH = b"\x04"  # catalog: gateway epochs and read horizons
SNAPSHOT = b"\x05"  # engine/snapshots: how far the catalog's own snapshots are
ENGINE = b"\x10"  # engine: everything of objects; engine/layout.py divides it further
ACCOUNTS = b"\x20"  # accounts: users, access keys and quotas
NETWORK = b"\x30"  # network: membership, placement, reputation
GATEWAY = b"\x40"  # gateway/wiring: the deployment's own record
MIGRATE = b"\x41"  # gateway/migrate: jobs that copy buckets in, and what is left of them
