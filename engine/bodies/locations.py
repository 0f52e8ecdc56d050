"""Where bodies are: the body rows, with a bounded cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from catalog.interface import Catalog, Reader
from engine.errors import Damaged
from engine.layout_data import BODY, parse_staged, staged_key
from engine.records_data import BODY_ROW, BodyRow


class Locations:
    """Body rows by body id.

    A cached location may be old: the body was compacted elsewhere meanwhile. That is safe, because names of pieces are
    never reused and every frame is bound to its body: an old location gives the right bytes or *not found*, upon which
    the reader asks with `fresh`.
    """

    def __init__(self, catalog: Catalog, *, limit: int = 16_384) -> None:
        self._catalog = catalog
        self._limit = limit
        self._rows: OrderedDict[bytes, BodyRow] = OrderedDict()
        #: What is remembered of a body id, at once.
        self.cached: Callable[[bytes], BodyRow | None] = self._rows.get

    async def get(self, body_id: bytes, *, fresh: bool = False) -> BodyRow:
        """Raises Damaged if the catalog has no such body: whoever holds a pin and a reference must find it."""
        found = None if fresh else self._rows.get(body_id)
        if found is not None:
            return found

        async def load(reader: Reader) -> bytes | None:
            return await reader.get(BODY + body_id)

        data = await self._catalog.read(load)
        if data is None:
            self._rows.pop(body_id, None)
            raise Damaged("the catalog does not know where a referenced body is")
        row = BODY_ROW.decode(data)
        self.put(body_id, row)
        return row

    async def staged(self, body_id: bytes, row: BodyRow) -> memoryview | None:
        """The sealed bytes of a body whose pack is yet to be written; None for any other."""
        if row.slice is None:
            return None
        key = staged_key(row.slice[0], row.slice[1])

        async def load(reader: Reader) -> bytes | None:
            return await reader.get(key)

        value = await self._catalog.read(load)
        if value is None:
            return None
        _, member, sealed = parse_staged(key, value)
        return sealed if member == body_id else None

    def put(self, body_id: bytes, row: BodyRow) -> None:
        """Remember; inline bodies are not kept, their bytes would fill the memory."""
        if row.sealed:
            return
        self._rows[body_id] = row
        if len(self._rows) > self._limit:
            self._rows.popitem(last=False)

    def forget(self, body_id: bytes) -> None:
        self._rows.pop(body_id, None)
