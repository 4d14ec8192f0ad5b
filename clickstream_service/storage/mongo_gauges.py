"""Numbers to watch, each from an index and none that takes longer as more is stored."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from clickstream_service import metrics
from clickstream_service.domain.feedback import FeedbackState
from clickstream_service.storage.rollup_state import STATE
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Document

MOST_COUNTED: Final = 100_000

_AGE_S: Final = {"$divide": [{"$subtract": ["$$NOW", "$since"]}, 1000]}
_HELD: Final = {"owner": {"$exists": True}, "$expr": {"$gt": ["$available_at", "$$NOW"]}}


@outages()
async def gauges(database: Database) -> dict[str, float]:
    """Return the values of `metrics.ASKED`."""
    pending = await _count_and_age(database, {"pending": True}, "pending_longest_first", "$due_at")
    leased = await _count_and_age(database, _HELD, "held", "$leased_at")
    parked = await database.sessions_for_improvement.count_documents(
        {"state": FeedbackState.PARKED}, limit=MOST_COUNTED
    )
    state = await database.rollup_state.find_one({"_id": STATE}, {"since": 1, "token": 1})
    return {
        metrics.PENDING_USERS: pending[0],
        metrics.OLDEST_PENDING: pending[1],
        metrics.LEASED_USERS: leased[0],
        metrics.OLDEST_LEASE: leased[1],
        metrics.PARKED_SESSIONS: parked,
        **({} if state is None else {metrics.ROLLUP_LAG: max(0.0, time.time() - _followed_until(state))}),
    }


async def _count_and_age(database: Database, which: Document, index: str, since: str) -> tuple[float, float]:
    """Return how many users there are, and how many seconds ago the earliest `since` of them was."""
    stages: list[dict[str, Any]] = [
        {"$match": which},
        {"$limit": MOST_COUNTED},
        {"$group": {"_id": None, "count": {"$sum": 1}, "since": {"$min": since}}},
        {"$project": {"count": 1, "age": _AGE_S}},
    ]
    found = await database.user_leases.aggregate(stages, hint=index).to_list(1)
    return (found[0]["count"], max(0.0, found[0]["age"])) if found else (0.0, 0.0)


def _followed_until(state: Document) -> float:
    """Return the time of the newest change in the rollups, in seconds.

    A resume token begins with the time of the change in its first index entry: a byte for its type, then seconds.
    """
    token = state.get("token")
    return float(int(token["_data"][2:10], 16)) if token is not None else float(state["since"].time)
