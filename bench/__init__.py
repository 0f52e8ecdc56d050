"""Benchmarks: each prints our figure beside a peer's or a physical limit's from the same run."""
