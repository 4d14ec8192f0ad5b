"""The index behind every query; each is named after what it serves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pymongo import ASCENDING, DESCENDING, IndexModel

from clickstream_service.storage.database import outages

if TYPE_CHECKING:
    from clickstream_service.storage.database import Database

SESSIONS: Final = (
    IndexModel([("user_id", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)], name="of_user_newest_first"),
    IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)], name="newest_first"),
    IndexModel(
        [("created_at", DESCENDING), ("_id", DESCENDING)],
        name="irrelevant_newest_first",
        partialFilterExpression={"irrelevant": {"$exists": True}},
    ),
    IndexModel([("batch_id", ASCENDING), ("session_number", ASCENDING)], name="of_batch_by_number", unique=True),
)
SESSION_EVENTS: Final = (
    IndexModel(
        [("session_id", ASCENDING), ("created_at", ASCENDING), ("_id.e", ASCENDING)], name="of_session_oldest_first"
    ),
)
SESSION_BATCHES: Final = (
    IndexModel(
        [("state", ASCENDING)],
        name="one_open_batch",
        unique=True,
        partialFilterExpression={"state": "open"},
    ),
    IndexModel(
        [("release_id", ASCENDING)],
        name="by_release",
        unique=True,
        partialFilterExpression={"release_id": {"$exists": True}},
    ),
)


@outages()
async def ensure(database: Database) -> None:
    """Create the indexes that are not there; their collections with them, as a transaction cannot do that."""
    await asyncio.gather(
        database.sessions.create_indexes(list(SESSIONS)),
        database.session_events.create_indexes(list(SESSION_EVENTS)),
        database.session_batches.create_indexes(list(SESSION_BATCHES)),
    )
