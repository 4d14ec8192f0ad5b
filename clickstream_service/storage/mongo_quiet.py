"""Sessions that wait to be looked at, in MongoDB: those with a `check_at`, which is when to look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymongo import ASCENDING, UpdateOne

from clickstream_service.domain.feedback import QuietSession
from clickstream_service.storage.documents import created_at
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from clickstream_service.storage.database import Database


class MongoQuiet:
    """When to look at which session, and what there is to see."""

    def __init__(self, database: Database) -> None:
        self._sessions = database.sessions
        self._events = database.session_events

    @outages()
    async def due(self, now: datetime, limit: int) -> list[QuietSession]:
        """Return sessions to look at by `now`, those that were due first before others."""
        fields = {"created_at": 1, "created_us": 1, "irrelevant": 1}
        found = self._sessions.find({"check_at": {"$lte": now}}, fields).sort("check_at", ASCENDING).limit(limit)
        sessions = await found.to_list(limit)
        of_these = {"session_id": {"$in": [session["_id"] for session in sessions]}}
        by_session = {"$group": {"_id": "$session_id", "last": {"$max": "$created_at"}}}
        last = {
            group["_id"]: group["last"] async for group in self._events.aggregate([{"$match": of_these}, by_session])
        }
        return [
            QuietSession(session["_id"], created_at(session), last.get(session["_id"]), "irrelevant" in session)
            for session in sessions
        ]

    @outages()
    async def look_again(self, when: Sequence[tuple[str, datetime | None]]) -> None:
        """Set when to look at sessions again, None for never; those that are submitted by now stay out."""
        changes = [
            UpdateOne(
                {"_id": session_id, "check_at": {"$exists": True}},
                {"$set": {"check_at": at}} if at is not None else {"$unset": {"check_at": ""}},
            )
            for session_id, at in when
        ]
        await self._sessions.bulk_write(changes, ordered=False)
