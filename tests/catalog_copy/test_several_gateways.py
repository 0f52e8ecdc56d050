"""A catalog that several gateways share: copied while all of them write, moved only by the last one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway.admin.client import Refused
from tests.catalog_copy.scene import BUCKET, Writers, check, copy_to, declare_dead, marks
from tests.harness.gateways import Cluster
from tests.harness.postgres_server import PostgresServer


@pytest.mark.timeout(600)
def test_copied_under_the_load_of_two_and_moved_once_one_is_left(tmp_path: Path, postgres: PostgresServer) -> None:
    cluster = Cluster(tmp_path, postgres, asyncio.run(postgres.new_database()), count=2)
    last, other = cluster.gateways[::-1]  # the one that started last is the one that lives on
    target = last.data
    back = cluster.new_gateway(last.folder.name, env={"ATOLL_CATALOG": ""})
    try:
        cluster.start()
        last.client().create_bucket(Bucket=BUCKET)
        writers = [Writers(gateway, count=1, name=gateway.folder.name) for gateway in cluster.gateways]
        with pytest.raises(Refused, match="is no folder"):
            copy_to(other, tmp_path / "absent" / "data")
        for server, place in ((last, target), (other, tmp_path / "standby"), (last, target)):
            copied = copy_to(server, place)
            assert copied["total"] > 0
            for one in writers:
                one.wait(10)
        with pytest.raises(Refused, match="other gateways use this catalog") as refused:
            copy_to(last, target, switch=True)
        assert f":{other.port}" in str(refused.value)

        # It is paused until all take it for dead, and comes back when the catalog is elsewhere.
        other.pause()
        declare_dead(cluster.url)
        cluster.cut_connections()  # it may stand still within a read, which holds the tables as a backup does
        assert copy_to(last, target, switch=True)["moved"]
        assert last.wait(60) == 0
        other.resume()
        written: dict[str, bytes | None] = {}
        deadline = time.monotonic() + 60
        while other.running():
            assert time.monotonic() < deadline, "it goes on"
            time.sleep(0.1)
        for one in writers:
            written |= one.stop()
            assert one.codes <= {"SlowDown", "ServiceUnavailable"}
        assert other.wait() == 3
        assert "was moved to" in "".join(other.output)
        assert marks(cluster.url)[0] is not None
        assert marks(target) == (None, None)

        back.start()
        check(back.client(), written)
        back.client().put_object(Bucket=BUCKET, Key="later", Body=b"later")
    finally:
        back.kill()
        cluster.kill()
