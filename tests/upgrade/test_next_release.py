"""A later release than the tree's, as far as it can be known today: what it adds, the release before lives with; what
it takes away, no older program may meet."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import asyncpg
import pytest
from msgspec.structs import replace

from catalog.errors import FutureVersion
from catalog.keys import prefix_end
from catalog.memory import MemoryCatalog
from catalog.postgres_engine.schema import SCHEMA
from catalog.records import Codec, Flags
from engine.layout import BUCKET as BUCKETS
from gateway.wiring.deployment import Deployment, change, open_deployment
from tests.harness.gateways import Cluster, GatewayProcess
from tests.harness.live_server import ServerFailed
from tests.harness.postgres_server import PostgresServer
from tests.upgrade import next_release, releases
from tests.upgrade.next_release import BIT, FIELD, NextBucketRow
from tests.upgrade.steady import BUCKET, SteadyClients

CHANGED = "made-by-the-next"


async def bucket_row(url: str, name: str) -> NextBucketRow:
    """A bucket's row, as the next release reads it."""
    codec = Codec(NextBucketRow)
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetch(
            "SELECT value FROM atoll_rows WHERE key >= $1 AND key < $2", BUCKETS, prefix_end(BUCKETS)
        )
    finally:
        await connection.close()
    (row,) = [row for row in (codec.decode(record["value"]) for record in found) if row.name == name]
    return row


def becomes(gateway: GatewayProcess, what: str) -> GatewayProcess:
    gateway.packages = None
    gateway.program = [sys.executable, next_release.__file__, what, "up"]
    return gateway


@pytest.mark.timeout(300)
def test_the_tables_and_records_of_the_next_release(postgres: PostgresServer, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, postgres, asyncio.run(postgres.new_database()), count=2)
    old, new = cluster.gateways
    later = becomes(cluster.new_gateway("later"), "contract")
    old.packages = releases.unpack_program(releases.PREVIOUS, tmp_path / "program")
    try:
        old.start()
        old.client().create_bucket(Bucket=BUCKET)
        steady = SteadyClients(cluster.gateways)
        steady.start()
        try:
            steady.go_on()
            becomes(new, "expand").start()
            assert schema(cluster) == {"schema": SCHEMA + 1, "needs": 1}
            steady.go_on()
            keep_what_is_unknown(cluster)
            # It may also start on what it does not know all of.
            assert old.stop() == 0
            old.start()
            steady.go_on()
        finally:
            steady.stop()
        steady.verify()
        with pytest.raises(ServerFailed, match=r"exit 3(.|\n)*gateways of an older version still use the catalog"):
            later.start()
        assert old.client().head_bucket(Bucket=CHANGED)
        old.stop()
        new.stop()
        later.start()
        assert later.client().head_bucket(Bucket=CHANGED)
        with pytest.raises(
            ServerFailed, match=rf"exit 3(.|\n)*needs a program of schema {SCHEMA + 2} or newer; this one has {SCHEMA}"
        ):
            old.start()
        assert later.client().list_objects_v2(Bucket=BUCKET)["KeyCount"]
    finally:
        cluster.kill()
        later.kill()


def schema(cluster: Cluster) -> dict[str, int]:
    query = "SELECT value FROM atoll_meta WHERE name = '{}'"
    return {
        name: asyncio.run(cluster.postgres.value(cluster.database, query.format(name))) for name in ("schema", "needs")
    }


def keep_what_is_unknown(cluster: Cluster) -> None:
    """An older program rewrites a record of the next release: the field and the bit that it does not know stay."""
    old, new = (gateway.client() for gateway in cluster.gateways)
    new.create_bucket(Bucket=CHANGED)
    old.put_bucket_versioning(Bucket=CHANGED, VersioningConfiguration={"Status": "Enabled"})
    old.put_object(Bucket=CHANGED, Key="key", Body=b"x")
    row = asyncio.run(bucket_row(cluster.url, CHANGED))
    assert row.versioning
    assert row.added == FIELD
    assert row.flags is not None
    assert row.flags.compatible == BIT
    # And one of the older release is complete to the newer.
    assert asyncio.run(bucket_row(cluster.url, BUCKET)).flags is None
    assert new.head_bucket(Bucket=BUCKET)


async def test_a_deployment_that_a_later_release_has_outgrown_is_refused(tmp_path: Path) -> None:
    catalog = MemoryCatalog()

    async def start() -> Deployment:
        return await open_deployment(
            catalog, data=tmp_path, root_key_file=tmp_path / "root.key", now_us=1, may_create=True
        )  # fmt: skip

    first = (await start()).row.flags
    assert first is not None
    assert (await start()).row.flags == first
    known = first.incompatible
    await change(catalog, lambda row: replace(row, flags=Flags(known, 64)))
    kept = (await start()).row.flags
    assert kept == Flags(known, 64)
    await change(catalog, lambda row: replace(row, flags=Flags(known | known + 1)))
    with pytest.raises(FutureVersion, match="a newer version of Atoll has used this deployment"):
        await start()
