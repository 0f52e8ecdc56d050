"""Rot on the nodes of a running server: never one wrong byte, damage named, and repaired.

Each test asserts the counter of the mechanism that it is about, so that it can't pass by luck.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.harness.live_server import LiveServer
from tests.rot.conftest import BUCKET
from tests.rot.nodes import NODES, Nodes

MIB = 1 << 20
#: Some inline, some packed, some with segments of their own; the last of several stripes and two segments.
SIZES = (3_000, 20_000, 300_000, 900_000, 2 * MIB, 3 * MIB + 17, 5 * MIB, 70 * MIB)
FRAME = 65_552
SHARD = 4 * FRAME


def body(name: str, size: int) -> bytes:
    return random.Random(f"{name}/{size}").randbytes(size)


class Objects:
    """Known objects in a bucket."""

    def __init__(self, server: LiveServer, sizes: tuple[int, ...] = SIZES) -> None:
        self._server = server
        self._client: Any = server.client()
        self._sizes = sizes

    def write(self) -> Objects:
        for size in self._sizes:
            self._client.put_object(Bucket=BUCKET, Key=f"key/{size}", Body=body("rot", size))
        self._server.settle()
        return self

    def verify(self) -> None:
        """Read everything, whole and in a few ranges."""
        rng = random.Random("ranges")
        for size in self._sizes:
            self._verify_one(self._client, size, rng)

    def _verify_one(self, client: Any, size: int, rng: random.Random) -> None:
        data = body("rot", size)
        found = client.get_object(Bucket=BUCKET, Key=f"key/{size}")["Body"].read()
        assert found == data, f"key/{size} has wrong bytes"
        for _ in range(3):
            first = rng.randrange(size)
            last = min(size - 1, first + rng.randrange(200_000))
            answer = client.get_object(Bucket=BUCKET, Key=f"key/{size}", Range=f"bytes={first}-{last}")
            assert answer["Body"].read() == data[first : last + 1], f"key/{size} has wrong bytes at {first}"

    @contextmanager
    def being_read(self, server: LiveServer, readers: int = 2) -> Iterator[None]:
        """Readers go round and round while the block runs; whatever they met is raised at its end."""
        stop = threading.Event()
        problems: list[BaseException] = []

        def read(seed: int) -> None:
            client, rng = server.client(), random.Random(seed)
            try:
                while not stop.is_set():
                    self._verify_one(client, rng.choice(self._sizes), rng)
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=read, args=(seed,), daemon=True) for seed in range(readers)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        if problems:
            raise problems[0]


def damage(nodes: Nodes, kind: str, victims: list[int], rng: random.Random, *, share: float = 1.0) -> int:
    """Damage pieces on the two nodes of `victims` in one way; returns how many."""
    count = 0
    for number in victims:
        pieces = nodes.pieces(number)
        chosen = [path for path in pieces if rng.random() < share] if share < 1 else pieces
        if kind == "swap":
            count += 2 * sum(nodes.swap(one, other) for one, other in itertools.pairwise(chosen))
            continue
        for path in chosen:
            if kind == "flip":
                count += nodes.flip(path, rng)
            elif kind == "truncate":
                count += nodes.truncate(path, rng)
            else:
                count += nodes.delete(path)
    return count


def repaired(nodes: Nodes, objects: Objects) -> None:
    """`check --repair` heals everything there is, and afterwards nothing is left to find."""
    report, found = nodes.check(repair=True)
    assert report["unrepaired"] == 0, (report, found)
    report, found = nodes.check(repair=False)
    assert found == []
    assert report["damaged"] == report["unreadable"] == report["unreachable"] == 0, report
    assert report["pieces"] == NODES * report["segments"]
    objects.verify()


#: What must have noticed each kind of damage.
NOTICED = {
    "flip": ("frame_failures", "verified_reads", "shard_mismatches"),
    "truncate": ("pieces_missing", "degraded_reads", "decodes"),
    "swap": ("frame_failures", "verified_reads", "footer_failures"),
    "delete": ("pieces_missing", "degraded_reads", "decodes"),
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", NOTICED)
def test_two_nodes_rot_while_reading(
    server: LiveServer, nodes: Nodes, kind: str, rounds: int, figure: Callable[[str], None]
) -> None:
    objects = Objects(server).write()
    rng = random.Random(kind)
    damaged = 0
    for _ in range(rounds):
        victims = rng.sample(range(1, NODES + 1), 2)
        before = nodes.counters()
        with nodes.watched() as named, objects.being_read(server):
            for _ in range(4):  # a repair may be done between two looks at the status
                hit = damage(nodes, kind, victims, rng)
                assert hit > 0
                damaged += hit
                objects.verify()
                if nodes.comes_true(lambda _: bool(named), seconds=10):
                    break
            assert named, "the status never named it"
        after = nodes.counters()
        for counter in NOTICED[kind]:
            assert after[counter] > before[counter], f"{counter} has not noticed"
        assert after["suspicions"] > before["suspicions"]
        assert after["damaged_reads"] == before["damaged_reads"] == 0
        accused = {line.split(" on ")[1].split(",")[0] for line in named}
        assert accused <= {f"disk-{number}" for number in victims}, "a sound node was accused"
        repaired(nodes, objects)
        assert nodes.counters()["pieces_rebuilt"] > before["pieces_rebuilt"]
    figure(f"{damaged} pieces damaged, {nodes.counters()['pieces_rebuilt']} rebuilt")


@pytest.mark.timeout(300)
def test_different_stripes_of_four_pieces(server: LiveServer, nodes: Nodes) -> None:
    """Four pieces of one segment are damaged, but no stripe has lost more than two of its shards."""
    objects = Objects(server, (8 * MIB,)).write()
    rng = random.Random("stripes")
    before = nodes.counters()
    for place, number in enumerate(rng.sample(range(1, NODES + 1), 4)):
        (path,) = nodes.pieces(number)
        for stripe in range(place // 2, 8, 2):  # two nodes in the even stripes, two in the odd ones
            nodes.flip(path, rng, low=stripe * SHARD, high=(stripe + 1) * SHARD)
    with nodes.watched() as named:
        objects.verify()
        nodes.comes_true(lambda _: bool(named), seconds=5)
    after = nodes.counters()
    assert after["frame_failures"] > before["frame_failures"]
    assert after["shard_mismatches"] >= before["shard_mismatches"] + 4
    assert after["verified_reads"] > before["verified_reads"]
    assert after["damaged_reads"] == 0
    _, found = nodes.check(repair=True)
    repaired(nodes, objects)
    # Which of the two found what depends on how fast the server repaired by itself.
    assert 1 <= len({line.split("piece ")[1].split(" ")[0] for line in (*found, *named)}) <= 4
    assert nodes.counters()["pieces_rebuilt"] >= 4


@pytest.mark.timeout(300)
def test_damaged_footers_are_no_loss(server: LiveServer, nodes: Nodes) -> None:
    """Without its footer a piece can prove nothing; its bytes are good as long as frames open."""
    objects = Objects(server, (3 * MIB,)).write()
    rng = random.Random("footers")
    for number in range(1, NODES + 1):
        (path,) = nodes.pieces(number)
        size = path.stat().st_size
        nodes.flip(path, rng, low=size - 100, high=size)
    before = nodes.counters()
    objects.verify()
    (path,) = nodes.pieces(1)
    nodes.flip(path, rng, high=SHARD)
    objects.verify()
    after = nodes.counters()
    assert after["damaged_reads"] == 0
    _, found = nodes.check(repair=False)
    assert len([line for line in found if line.endswith("footer")]) == NODES
    assert nodes.counters()["footer_failures"] > before["footer_failures"]


@pytest.mark.timeout(300)
def test_more_rot_than_the_code_bears_is_an_error_never_wrong_bytes(server: LiveServer, nodes: Nodes) -> None:
    objects = Objects(server, (300_000,)).write()
    rng = random.Random("too much")
    for number in (1, 2, 3):
        (path,) = nodes.pieces(number)
        nodes.flip(path, rng, high=path.stat().st_size - 400)
    client = server.client()
    answer = None
    with pytest.raises(client.exceptions.ClientError) as raised:
        answer = client.get_object(Bucket=BUCKET, Key="key/300000")
    assert answer is None
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert nodes.counters()["damaged_reads"] > 0
    report, found = nodes.check(repair=True)
    assert report["unrepaired"] > 0
    assert any("key/300000" in line for line in found)
    del objects


@pytest.mark.timeout(3600)
def test_rot_at_random(server: LiveServer, nodes: Nodes, rounds: int, figure: Callable[[str], None]) -> None:
    """All kinds mixed, on any two nodes, some pieces of each, while being read; healed after each round."""
    objects = Objects(server).write()
    rng = random.Random("mixed")
    noticed = 0
    for _ in range(2 * rounds):
        before = nodes.counters()
        with objects.being_read(server):
            victims = rng.sample(range(1, NODES + 1), 2)
            for _ in range(3):
                kind = rng.choice(list(NOTICED))
                damage(nodes, kind, victims, rng, share=0.5)
            objects.verify()
        after = nodes.counters()
        noticed += sum(after[name] - before[name] for name in ("shard_mismatches", "footer_failures", "pieces_missing"))
        repaired(nodes, objects)
    assert noticed > 0
    figure(f"{noticed} damages met by readers, {nodes.counters()['pieces_rebuilt']} pieces rebuilt")
    assert nodes.counters()["damaged_reads"] == 0
