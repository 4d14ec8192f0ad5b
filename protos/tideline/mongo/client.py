"""A connection to MongoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import WriteConcern

from tideline.mongo.commands import ReportedCommands

if TYPE_CHECKING:
    from datetime import timedelta

    from motor.motor_asyncio import AsyncIOMotorCollection, AsyncIOMotorDatabase

    from tideline.mongo.availability import Availability

    Document = dict[str, Any]
    Client = AsyncIOMotorClient[Document]
    Database = AsyncIOMotorDatabase[Document]
    Collection = AsyncIOMotorCollection[Document]

DURABLE: Final = WriteConcern(w="majority", j=True)
"""A write is answered once most members have it in their journal."""

HEARTBEAT_MS: Final = 2_000


def connect(uri: str, appname: str, patience: timedelta, availability: Availability) -> Client:
    """Prepare a connection; it is made by the first call. Calls wait up to `patience` for a primary."""
    patience_ms = int(patience.total_seconds() * 1000)
    return AsyncIOMotorClient(
        uri,
        tz_aware=True,
        serverSelectionTimeoutMS=patience_ms,
        connectTimeoutMS=patience_ms,
        # A primary that hangs, or a network that swallows, is noticed after this and the time to connect; what
        # waits for it is given up then, and repeated where it can be.
        heartbeatFrequencyMS=HEARTBEAT_MS,
        event_listeners=[availability, ReportedCommands()],
        appname=appname,
    )
