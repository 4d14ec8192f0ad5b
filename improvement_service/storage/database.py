"""The connection to MongoDB."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import WriteConcern

from improvement_service.storage.availability import Availability
from improvement_service.storage.commands import ReportedCommands

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from motor.motor_asyncio import AsyncIOMotorDatabase

    Document = dict[str, Any]

DURABLE: Final = WriteConcern(w="majority", j=True)
"""A write is answered once most members have it in their journal."""


HEARTBEAT_MS: Final = 2_000


@contextmanager
def connected(
    uri: str, name: str, patience: timedelta, availability: Availability | None = None
) -> Iterator[AsyncIOMotorDatabase[Document]]:
    """Use a database for as long as the block lasts. Calls wait up to `patience` for a primary."""
    patience_ms = int(patience.total_seconds() * 1000)
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
        uri,
        tz_aware=True,
        serverSelectionTimeoutMS=patience_ms,
        connectTimeoutMS=patience_ms,
        # A primary that hangs, or a network that swallows, is noticed after this and the time to connect.
        heartbeatFrequencyMS=HEARTBEAT_MS,
        event_listeners=[availability or Availability(patience.total_seconds()), ReportedCommands()],
        appname="improvement",
    )
    try:
        yield client.get_database(name, write_concern=DURABLE)
    finally:
        client.close()


async def ping(database: AsyncIOMotorDatabase[Document]) -> None:
    """Ask whether there is a primary that answers."""
    await database.client.admin.command("ping")
