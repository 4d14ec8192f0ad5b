"""The index behind every query; each is named after what it serves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pymongo import ASCENDING, DESCENDING, IndexModel

from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from clickstream_service.storage.database import Database

OLDEST_FIRST: Final = [("session_id", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)]
"""The order of events session by session."""
OF_USER_OLDEST_FIRST: Final = [("user_id", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)]
"""The order of sessions, and of events, user by user."""

SESSIONS: Final = (
    IndexModel([("user_id", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)], name="of_user_newest_first"),
    IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)], name="newest_first"),
    IndexModel(
        [("created_at", DESCENDING), ("_id", DESCENDING)],
        name="irrelevant_newest_first",
        partialFilterExpression={"irrelevant": {"$exists": True}},
    ),
    IndexModel([("batch_id", ASCENDING), ("session_number", ASCENDING)], name="of_batch_by_number", unique=True),
    IndexModel(
        OF_USER_OLDEST_FIRST,
        name="submitted_of_user_oldest_first",
        partialFilterExpression={"submitted": True},
    ),
    IndexModel([("check_at", ASCENDING)], name="to_look_at", partialFilterExpression={"check_at": {"$exists": True}}),
    # The time comes last so that sessions of other times are passed over without being read.
    IndexModel(
        [("query_key", ASCENDING), ("_id", ASCENDING), ("created_at", ASCENDING)],
        name="by_query",
        partialFilterExpression={"query_key": {"$exists": True}},
    ),
)
SESSION_EVENTS: Final = (
    IndexModel(OLDEST_FIRST, name="of_session_oldest_first"),
    IndexModel([("session_id", ASCENDING)], name="awaiting_session", partialFilterExpression={"awaits_session": True}),
    # As one list, whatever the session: `_id` tells those of the same time apart.
    IndexModel([("created_at", ASCENDING), ("_id", ASCENDING)], name="oldest_first"),
    IndexModel(OF_USER_OLDEST_FIRST, name="of_user_oldest_first"),
    IndexModel(
        [("object_id", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)], name="of_object_oldest_first"
    ),
    IndexModel(
        [("query_text", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)], name="of_query_oldest_first"
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
    IndexModel([("state", ASCENDING), ("opened_at", DESCENDING), ("_id", DESCENDING)], name="by_state_newest_first"),
)
SESSIONS_FOR_IMPROVEMENT: Final = (
    IndexModel([("user_id", ASCENDING), ("state", ASCENDING)], name="of_user_by_state"),
    IndexModel([("state", ASCENDING)], name="by_state"),
)
USER_LEASES: Final = (
    # `pending` leads although it is always true, since a query that names no other field would not use the index.
    IndexModel(
        [("pending", ASCENDING), ("available_at", ASCENDING)],
        name="to_lease",
        partialFilterExpression={"pending": True},
    ),
    IndexModel(
        [("pending", ASCENDING), ("due_at", ASCENDING), ("_id", ASCENDING)],
        name="pending_longest_first",
        partialFilterExpression={"pending": True},
    ),
    IndexModel([("available_at", ASCENDING)], name="held", partialFilterExpression={"owner": {"$exists": True}}),
)
PROPENSITIES: Final = (
    IndexModel([("surface", ASCENDING), ("device", ASCENDING), ("_id", DESCENDING)], name="of_surface_newest_first"),
)
MONITOR_TRANSITIONS: Final = (
    IndexModel([("monitor_id", ASCENDING), ("number", DESCENDING)], name="of_monitor_newest_first"),
    IndexModel(
        [("monitor_id", ASCENDING), ("number", ASCENDING)],
        name="to_deliver",
        partialFilterExpression={"deliver_at": {"$exists": True}},
    ),
    IndexModel([("at", ASCENDING)], name="until_90_days_ago", expireAfterSeconds=90 * 24 * 3600),
)
ALL: Final = (
    *SESSIONS,
    *SESSION_EVENTS,
    *SESSION_BATCHES,
    *SESSIONS_FOR_IMPROVEMENT,
    *USER_LEASES,
    *PROPENSITIES,
    *MONITOR_TRANSITIONS,
)


@outages()
async def ensure(database: Database) -> None:
    """Create the indexes that are not there; their collections with them, as a transaction cannot do that."""
    await asyncio.gather(
        database.sessions.create_indexes(list(SESSIONS)),
        database.session_events.create_indexes(list(SESSION_EVENTS)),
        database.session_batches.create_indexes(list(SESSION_BATCHES)),
        database.sessions_for_improvement.create_indexes(list(SESSIONS_FOR_IMPROVEMENT)),
        database.user_leases.create_indexes(list(USER_LEASES)),
        database.monitor_transitions.create_indexes(list(MONITOR_TRANSITIONS)),
        database.propensities.create_indexes(list(PROPENSITIES)),
    )
