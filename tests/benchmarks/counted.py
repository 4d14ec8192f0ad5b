"""Waiting for signals."""

from __future__ import annotations

from datetime import timedelta

from clickstream_service.storage.database import Database
from clickstream_service.storage.mongo_rollups import MongoRollups


async def counted(mongo_uri: str, name: str) -> None:
    """Wait until the signals have counted all that is in a database; that takes a processor meanwhile."""
    database = Database(mongo_uri, name, timedelta(seconds=30))
    try:
        await MongoRollups(database).caught_up()
    finally:
        database.close()
