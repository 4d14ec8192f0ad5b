"""Wiring: from settings to a running service."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from clickstream_service.rpc import server as rpc
from clickstream_service.storage import indexes
from clickstream_service.storage.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from clickstream_service.config import Settings


def utc_now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def running(settings: Settings, now: Callable[[], datetime] = utc_now) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port.

    Leaving it in order: calls under way get their grace, then what waits is written, then the database is let go.
    Raises `DependencyUnavailable` when there is no database and `RuntimeError` when the address is taken.
    """
    async with AsyncExitStack() as stack:
        database = Database(str(settings.mongo_uri), settings.mongo_database, settings.mongo_patience)
        stack.callback(database.close)
        await indexes.ensure(database)
        server = rpc.build(rpc.UseCases())
        port = server.listen(settings.listen)
        await server.start()
        stack.push_async_callback(server.stop, settings.stop_grace.total_seconds())
        yield port
