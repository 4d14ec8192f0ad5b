"""Old sessions and events leave MongoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pymongo import ASCENDING

from clickstream_service.storage.transactions import in_transaction
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from datetime import datetime

    from motor.motor_asyncio import AsyncIOMotorClientSession as Transaction

    from clickstream_service.storage.database import Database
    from clickstream_service.storage.mongo_sessions import Requeue
    from tideline.mongo.client import Document

SESSIONS_AT_ONCE: Final = 200
EVENTS_AT_ONCE: Final = 2_000


class MongoRetention:
    """Deletes by age, some at a time; what is broken off is found again."""

    def __init__(self, database: Database, requeue_in: Requeue) -> None:
        """`requeue_in` queues the users of submitted sessions again, in the transaction that it is given."""
        self._database = database
        self._sessions = database.sessions
        self._events = database.session_events
        self._queue = database.sessions_for_improvement
        self._requeue_in = requeue_in

    @outages()
    async def expire_sessions(self, before: datetime) -> int:
        """Delete some sessions from before a time with events and queue entries; returns how many, 0 at the end."""
        old = self._sessions.find({"created_at": {"$lt": before}}, {"submitted": 1})
        found = await old.sort([("created_at", ASCENDING), ("_id", ASCENDING)]).to_list(SESSIONS_AT_ONCE)
        if not found:
            return 0
        ids = {"$in": [session["_id"] for session in found]}
        while await self._delete_events({"session_id": ids}):
            pass

        async def work(transaction: Transaction) -> None:
            # Looked at again: one of them may have been submitted meanwhile.
            submitted = self._sessions.find({"_id": ids, "submitted": True}, {"_id": 1}, session=transaction)
            if again := [session["_id"] async for session in submitted]:
                await self._requeue_in(again, transaction)
            await self._queue.delete_many({"_id": ids}, session=transaction)
            await self._sessions.delete_many({"_id": ids}, session=transaction)

        await in_transaction(self._database, work)
        return len(found)

    @outages()
    async def expire_events(self, before: datetime) -> int:
        """Delete some events from before a time that have no session; returns how many, 0 at the end."""
        alone = {"$or": [{"session_id": ""}, {"awaits_session": True}]}
        return await self._delete_events({"created_at": {"$lt": before}, **alone})

    async def _delete_events(self, query: Document) -> int:
        found = [event["_id"] async for event in self._events.find(query, {"_id": 1}).limit(EVENTS_AT_ONCE)]
        if found:
            await self._events.delete_many({"_id": {"$in": found}})
        return len(found)
