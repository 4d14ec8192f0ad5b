"""What a user did something with, from the events in MongoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from clickstream_service.domain.signal import ConsumedObject
from clickstream_service.storage.interaction_queries import NO_NOISE
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from clickstream_service.storage.database import Database

NOT_CONSUMED: Final = ["view"]
"""Without types that are asked for, all others count."""


class MongoConsumed:
    """Events by user."""

    def __init__(self, database: Database) -> None:
        self._events = database.session_events
        self._sessions = database.sessions

    @outages()
    async def consumed(self, user_id: str, since: datetime, types: Collection[str], limit: int) -> list[ConsumedObject]:
        """Return objects with events of these types, of all but view when empty, newest first."""
        counting: dict[str, Any] = (
            {"$setIntersection": ["$event_types", {"$literal": list(types)}]}
            if types
            else {"$setDifference": ["$event_types", NOT_CONSUMED]}
        )
        session = {
            "from": self._sessions.name,
            "localField": "_id.session",
            "foreignField": "_id",
            # Not the whole of a session, which may be large.
            "pipeline": [{"$project": {"off": {"$or": ["$irrelevant", {"$ne": [{"$ifNull": ["$noise", []]}, []]}]}}}],
            "as": "session",
        }
        both = {"$setUnion": ["$$value", "$$this"]}
        pipeline: list[dict[str, Any]] = [
            {"$match": {"user_id": user_id, "created_at": {"$gte": since}, "object_id": {"$gt": ""}, **NO_NOISE}},
            {"$project": {"object_id": 1, "session_id": 1, "created_at": 1, "types": counting}},
            {"$match": {"types": {"$ne": []}}},
            {
                "$group": {
                    "_id": {"object": "$object_id", "session": "$session_id"},
                    "types": {"$addToSet": "$types"},
                    "last_at": {"$max": "$created_at"},
                    "n": {"$sum": 1},
                }
            },
            {"$lookup": session},
            {"$match": {"session.off": {"$ne": True}}},
            {"$set": {"types": {"$reduce": {"input": "$types", "initialValue": [], "in": both}}}},
            {
                "$group": {
                    "_id": "$_id.object",
                    "types": {"$addToSet": "$types"},
                    "last_at": {"$max": "$last_at"},
                    "n": {"$sum": "$n"},
                }
            },
            {"$sort": {"last_at": -1, "_id": 1}},
            {"$limit": limit},
            {"$set": {"types": {"$reduce": {"input": "$types", "initialValue": [], "in": both}}}},
        ]
        found = self._events.aggregate(pipeline)
        return [
            ConsumedObject(each["_id"], tuple(sorted(each["types"])), each["last_at"], each["n"])
            async for each in found
        ]
