"""Views: one snapshot of the database that is read from more than once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from catalog.errors import CatalogError
from catalog.interface import View
from catalog.postgres_engine import statements
from catalog.postgres_engine.batch import decode_keys
from catalog.postgres_engine.connections import Connector
from catalog.postgres_engine.failures import translate
from catalog.postgres_engine.readers import SnapshotReader


class SteadyView(SnapshotReader):
    """A `View` on a connection of its own."""

    __slots__ = ()

    async def unnumbered(self) -> list[bytes]:
        rows = await self._fetch(statements.UNNUMBERED)
        return [key for row in rows if row[0] for key in decode_keys(row[0])]


@asynccontextmanager
async def steady_view(connector: Connector) -> AsyncIterator[View]:
    """See `catalog.interface.Catalog.view`. Raises CatalogUnavailable, also within, where the database goes away."""
    try:
        connection = await connector.connect(endless=True)
    except Exception as error:
        raise translate(error) from None
    view = SteadyView(connection, connector.patience)
    try:
        await _begin(view)
        yield view
    except Exception as error:
        if isinstance(error, CatalogError) or view.failure is not error:
            raise
        raise translate(error) from None
    finally:
        connection.terminate()


async def _begin(view: SteadyView) -> None:
    try:
        await view.begin()
    except Exception as error:
        raise translate(error) from None
