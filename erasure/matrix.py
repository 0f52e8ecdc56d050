"""Code 1's matrices over GF(2^8) with polynomial 0x11d. Spec: docs/formats/object.md, "Code"."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import reedsolo

from erasure.scheme import Scheme

_POLYNOMIAL = 0x11D

Row = tuple[int, ...]
Matrix = tuple[Row, ...]


def _tables() -> tuple[bytes, bytes]:
    """Exponents (doubled, so that sums of two logarithms need no modulo) and logarithms of the field.

    Copied at once, because reedsolo keeps its tables in module globals that another user may set anew.
    """
    logarithms, exponents, _ = reedsolo.init_tables(_POLYNOMIAL)
    return bytes(exponents[:510]), bytes(logarithms)


_EXP, _LOG = _tables()


def multiply(a: int, b: int) -> int:
    return _EXP[_LOG[a] + _LOG[b]] if a and b else 0


def inverse(a: int) -> int:
    """Raises ZeroDivisionError for 0."""
    if not a:
        raise ZeroDivisionError("0 has no inverse")
    return _EXP[255 - _LOG[a]]


@cache
def times(constant: int) -> bytes:
    """The 256-byte table of `constant` × every byte, for bytes.translate."""
    return bytes(multiply(constant, value) for value in range(256))


@cache
def parity_rows(scheme: Scheme) -> Matrix:
    """The m rows below the identity: inv((k + i) xor j)."""
    k = scheme.k
    return tuple(tuple(inverse((k + i) ^ j) for j in range(k)) for i in range(scheme.m))


def shard_row(scheme: Scheme, index: int) -> Row:
    """The row of the whole matrix that makes shard `index` from the data shards."""
    if index < scheme.k:
        return tuple(int(j == index) for j in range(scheme.k))
    return parity_rows(scheme)[index - scheme.k]


def invert(matrix: Sequence[Row]) -> Matrix:
    """The inverse of a square matrix (Gauss–Jordan). Raises ZeroDivisionError for a singular one."""
    size = len(matrix)
    rows = [list(row) + [int(i == j) for j in range(size)] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next((r for r in range(column, size) if rows[r][column]), column)
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = times(inverse(rows[column][column]))
        lead = rows[column] = [scale[value] for value in rows[column]]
        for r in range(size):
            factor = rows[r][column]
            if r != column and factor:
                table = times(factor)
                rows[r] = [value ^ table[by] for value, by in zip(rows[r], lead, strict=True)]
    return tuple(tuple(row[size:]) for row in rows)


def decode_rows(scheme: Scheme, used: Sequence[int], wanted: Sequence[int]) -> Matrix:
    """For each wanted shard, the row that makes it from the k shards `used`, in that order."""
    inverted = invert([shard_row(scheme, index) for index in used])
    rows: list[Row] = []
    for index in wanted:
        row = [0] * scheme.k
        for factor, data_row in zip(shard_row(scheme, index), inverted, strict=True):
            if factor:
                table = times(factor)
                row = [value ^ table[by] for value, by in zip(row, data_row, strict=True)]
        rows.append(tuple(row))
    return tuple(rows)
