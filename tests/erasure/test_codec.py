"""The code: any k of n gives the bytes back, and all codecs make the same bytes."""

from __future__ import annotations

import itertools
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.buffers import Buffer
from erasure.codec import Codec
from erasure.codecs import agrees, default_codec
from erasure.errors import CodecError, NotEnoughShards
from erasure.isal import IsalCodec, candidates
from erasure.liberasurecode import LiberasurecodeCodec
from erasure.matrix import inverse, invert, multiply, parity_rows, shard_row
from erasure.portable import PortableCodec
from erasure.scheme import Scheme

PORTABLE = PortableCodec()
ISAL = IsalCodec()
LIBERASURECODE = LiberasurecodeCodec()
FAST: list[Codec] = [ISAL, LIBERASURECODE]

schemes = st.integers(1, 32).flatmap(lambda k: st.builds(Scheme, st.just(k), st.integers(0, 32 - k)))
#: Around the vector widths at which ISA-L changes its loops.
lengths = st.one_of(st.integers(1, 200), st.sampled_from([255, 256, 257, 511, 1023, 1025, 4097]))


def coded(codec: Codec, scheme: Scheme, length: int, seed: int = 1) -> list[bytes]:
    data: list[Buffer] = [random.Random(seed + i).randbytes(length) for i in range(scheme.k)]
    parity = [bytearray(length) for _ in range(scheme.m)]
    codec.encode(scheme, data, parity)
    return [bytes(shard) for shard in (*data, *parity)]


@settings(max_examples=150)
@given(schemes, lengths, st.data())
@pytest.mark.parametrize("codec", [PORTABLE, ISAL, LIBERASURECODE], ids=lambda c: c.name)
def test_any_k_of_n_gives_every_other_shard_back(
    codec: Codec, scheme: Scheme, length: int, data: st.DataObject
) -> None:
    shards = coded(PORTABLE, scheme, length)
    order = data.draw(st.permutations(range(scheme.n)))
    have = {i: shards[i] for i in order[: scheme.k]}
    lost = order[scheme.k :]
    want = {i: bytearray(length) for i in lost}
    codec.reconstruct(scheme, have, want)
    assert {i: bytes(made) for i, made in want.items()} == {i: shards[i] for i in lost}


@settings(max_examples=150)
@given(schemes, lengths, st.integers(0, 1 << 30))
@pytest.mark.parametrize("codec", FAST, ids=lambda c: c.name)
def test_parity_is_byte_identical(codec: Codec, scheme: Scheme, length: int, seed: int) -> None:
    assert coded(codec, scheme, length, seed) == coded(PORTABLE, scheme, length, seed)


@pytest.mark.parametrize("scheme", [Scheme(4, 2), Scheme(1, 2), Scheme(2, 2), Scheme(6, 3)], ids=str)
def test_every_loss_pattern_of_the_common_schemes(scheme: Scheme) -> None:
    shards = coded(ISAL, scheme, 333)
    for kept in itertools.combinations(range(scheme.n), scheme.k):
        want = {i: bytearray(333) for i in range(scheme.n) if i not in kept}
        ISAL.reconstruct(scheme, {i: shards[i] for i in kept}, want)
        assert all(want[i] == shards[i] for i in want), kept


@pytest.mark.parametrize("k", range(1, 32))
def test_the_largest_schemes_survive_the_worst_loss(k: int) -> None:
    scheme = Scheme(k, 32 - k)
    shards = coded(ISAL, scheme, 65)
    lost = range(min(k, scheme.m))
    want = {i: bytearray(65) for i in lost}
    ISAL.reconstruct(scheme, {i: shards[i] for i in range(scheme.n) if i not in want}, want)
    assert all(want[i] == shards[i] for i in lost)


@pytest.mark.parametrize("codec", [PORTABLE, *FAST], ids=lambda c: c.name)
def test_any_columns_decode_alone(codec: Codec) -> None:
    scheme = Scheme(4, 2)
    shards = [memoryview(shard) for shard in coded(PORTABLE, scheme, 5000)]
    columns = slice(1234, 1234 + 777)
    want = {0: bytearray(777), 3: bytearray(777)}
    codec.reconstruct(scheme, {i: shards[i][columns] for i in (1, 2, 4, 5)}, want)
    assert want[0] == shards[0][columns]
    assert want[3] == shards[3][columns]


@pytest.mark.parametrize("codec", [PORTABLE, *FAST], ids=lambda c: c.name)
def test_buffers_are_coded_in_place_whatever_their_kind(codec: Codec) -> None:
    scheme = Scheme(3, 2)
    due = coded(PORTABLE, scheme, 100)
    whole = memoryview(bytearray(b"".join(due[:3]) + bytes(202)))
    codec.encode(scheme, [whole[:100], due[1], bytearray(due[2])], [whole[301:401], whole[402:502]])
    assert [whole[301:401], whole[402:502]] == due[3:]
    assert bytes(whole[:301]) == b"".join(due[:3]) + b"\0"


@pytest.mark.parametrize("codec", [PORTABLE, *FAST], ids=lambda c: c.name)
def test_misuse_is_refused(codec: Codec) -> None:
    scheme = Scheme(2, 1)
    a, b = bytes(10), bytes(10)
    with pytest.raises(ValueError, match="buffers"):
        codec.encode(scheme, [a], [bytearray(10)])
    with pytest.raises(ValueError, match="buffers"):
        codec.encode(scheme, [a, b], [])
    with pytest.raises(ValueError, match="lengths"):
        codec.encode(scheme, [a, b], [bytearray(11)])
    with pytest.raises(ValueError, match="among"):
        codec.reconstruct(scheme, {0: a, 1: b}, {1: bytearray(10)})
    with pytest.raises(ValueError, match="shard 3"):
        codec.reconstruct(scheme, {0: a, 3: b}, {1: bytearray(10)})
    with pytest.raises(ValueError, match="lengths"):
        codec.reconstruct(scheme, {0: a, 2: bytes(9)}, {1: bytearray(10)})
    with pytest.raises(NotEnoughShards, match="1 shards of 2"):
        codec.reconstruct(scheme, {0: a}, {1: bytearray(10)})


def test_a_read_only_target_is_refused_before_a_byte_is_written() -> None:
    target = bytes(10)
    with pytest.raises(BufferError):
        ISAL.encode(Scheme(2, 1), [b"0123456789", b"abcdefghij"], [target])
    assert target == bytes(10)


def test_a_buffer_is_free_again_after_coding() -> None:
    """A buffer that stayed exported could not be resized: the codec would leak it."""
    target, source = bytearray(10), bytearray(10)
    ISAL.encode(Scheme(2, 1), [source, source], [target])
    target.append(1)
    source.append(1)
    with pytest.raises(BufferError):
        ISAL.encode(Scheme(2, 1), [source, source], [bytes(11)])
    source.append(1)
    assert (len(target), len(source)) == (11, 12)


def test_threads_share_a_codec() -> None:
    scheme, codec = Scheme(10, 4), IsalCodec()
    due = coded(PORTABLE, scheme, 3001)
    wrong: list[int] = []

    def work(seed: int) -> None:
        choice = random.Random(seed)
        for _ in range(100):
            kept = choice.sample(range(scheme.n), scheme.k)
            want = {i: bytearray(3001) for i in range(scheme.n) if i not in kept}
            codec.reconstruct(scheme, {i: due[i] for i in kept}, want)
            wrong.extend(i for i in want if want[i] != due[i])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_matrix_is_the_formats() -> None:
    assert multiply(0x80, 2) == 0x1D
    assert parity_rows(Scheme(4, 2)) == ((0x47, 0xA7, 0x7A, 0xBA), (0xA7, 0x47, 0xBA, 0x7A))
    assert all(multiply(a, inverse(a)) == 1 for a in range(1, 256))
    scheme = Scheme(5, 3)
    rows = [shard_row(scheme, i) for i in (7, 1, 6, 5, 3)]
    assert invert(invert(rows)) == tuple(rows)
    with pytest.raises(ZeroDivisionError):
        invert([(1, 1), (1, 1)])
    with pytest.raises(ZeroDivisionError):
        inverse(0)


class _Broken(PortableCodec):
    """Makes other parity than the format's."""

    def encode(self, scheme: Scheme, data: object, parity: object) -> None:
        return


def test_the_fastest_codec_that_agrees_is_chosen() -> None:
    assert default_codec().name == "isa-l"
    assert all(agrees(codec) for codec in (PORTABLE, *FAST))
    assert not agrees(_Broken())


def test_a_library_that_is_not_isal_is_refused(tmp_path: object) -> None:
    with pytest.raises(CodecError):
        IsalCodec(f"{tmp_path}/missing.so")
    other = next(iter(candidates())).replace("libisal", "libnullcode").replace(".so.2", ".so.1")
    with pytest.raises(CodecError):
        IsalCodec(other)
