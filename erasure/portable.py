"""The codec that runs anywhere: translation by a constant's table, and XOR of big integers. Fallback and oracle."""

from __future__ import annotations

from collections.abc import Sequence

from core.buffers import Buffer
from erasure.codec import MatrixCodec
from erasure.matrix import Matrix, times


class PortableCodec(MatrixCodec[Matrix]):
    """Pure Python over the standard library; some 100 to 300 MB/s, holding the GIL."""

    name = "portable"

    def prepare(self, k: int, rows: Matrix) -> Matrix:
        return rows

    def product(self, prepared: Matrix, length: int, sources: Sequence[Buffer], targets: Sequence[Buffer]) -> None:
        columns = [bytes(source) for source in sources]
        for row, target in zip(prepared, targets, strict=True):
            total = 0
            for factor, column in zip(row, columns, strict=True):
                if factor:
                    scaled = column if factor == 1 else column.translate(times(factor))
                    total ^= int.from_bytes(scaled, "little")
            memoryview(target).cast("B")[:] = total.to_bytes(length, "little")
