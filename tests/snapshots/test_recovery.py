"""A gateway is killed amid its work and nothing of its machine is left: the bench of that, with few objects."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.recovery import body_of, measure
from tests.harness.namespace import entering


@pytest.mark.timeout(300)
def test_everything_acknowledged_before_the_recovery_point_is_back(tmp_path: Path) -> None:
    """In a new network namespace, with the root key and the nodes alone; the access key of the first start works."""
    if entering() is None:
        assert not os.environ.get("CI"), "CI has to be able to make network namespaces"
        pytest.skip("a new network namespace is not permitted here")
    figures = measure(tmp_path, 300, going_on=2.0)
    assert figures.broken == []
    assert figures.warnings == []
    assert figures.objects - figures.lost >= 300
    assert figures.rows > figures.objects - figures.lost
    assert figures.snapshot_bytes > 0


def test_the_bench_knows_every_kind_of_object() -> None:
    sizes = [len(body_of(number)) for number in range(300)]
    assert min(sizes) < 100
    assert sizes.count(10 * 1024) == 120
    assert sum(size > 3 << 20 for size in sizes) == 1
