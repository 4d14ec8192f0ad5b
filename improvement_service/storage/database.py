"""The connection to MongoDB."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tideline.mongo.availability import Availability
from tideline.mongo.client import DURABLE, connect
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from tideline.mongo.client import Database


@contextmanager
def connected(uri: str, name: str, patience: timedelta, availability: Availability | None = None) -> Iterator[Database]:
    """Use a database for as long as the block lasts. Calls wait up to `patience` for a primary."""
    client = connect(uri, "improvement", patience, availability or Availability(patience.total_seconds()))
    try:
        yield client.get_database(name, write_concern=DURABLE)
    finally:
        client.close()


@outages()
async def ping(database: Database) -> None:
    """Ask whether there is a primary that answers; raises `DependencyUnavailable`."""
    await database.client.admin.command("ping")
