"""All that MongoDB has of a user, but for the erasure itself: found, deleted, and read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pymongo import DESCENDING

from clickstream_service.domain.session import SessionWithEvents
from clickstream_service.storage import documents
from clickstream_service.storage.transactions import in_transaction
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from datetime import datetime

    from motor.motor_asyncio import AsyncIOMotorClientSession as Transaction

    from clickstream_service.domain.event import EventPage
    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Collection

    Document = dict[str, Any]
    Page = Callable[[str, tuple[datetime, str] | None, int, int], Awaitable[EventPage]]

SESSIONS_AT_ONCE: Final = 200
EVENTS_AT_ONCE: Final = 2_000
"""So many are deleted, and counted, in one transaction."""
SESSION_BYTES: Final = 3_800_000
"""How large a session and its events may be together: gRPC clients take 4 MiB unless they are told otherwise."""

_FREE: Final = {"$or": [{"owner": {"$exists": False}}, {"$expr": {"$lte": ["$available_at", "$$NOW"]}}]}


class PersonalRecords:
    """The records of one user in all collections."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sessions = database.sessions
        self._events = database.session_events
        self._queue = database.sessions_for_improvement
        self._leases = database.user_leases
        self._erasures = database.erasures

    async def any(self, user_id: str, transaction: Transaction) -> bool:
        """Whether anything is known of the user."""
        of_user = {"user_id": user_id}
        for collection, query in (
            (self._sessions, of_user),
            (self._events, of_user),
            (self._queue, of_user),
            (self._leases, {"_id": user_id}),
        ):
            if await collection.find_one(query, {"_id": 1}, session=transaction) is not None:
                return True
        return False

    @outages()
    async def delete(self, user_id: str, erasure: str) -> None:
        """Delete all but the lease, and count in the document of the erasure what went.

        Events go before their sessions, by which they are found: it can be broken off anywhere and begun again.
        """
        while session_ids := await self._ids(self._sessions, {"user_id": user_id}, SESSIONS_AT_ONCE):
            ids = {"$in": session_ids}
            await self._delete_events({"session_id": ids}, erasure)
            queued, sessions = (self._queue, {"_id": ids}, "queued"), (self._sessions, {"_id": ids}, "sessions")
            await self._delete(erasure, queued, sessions)
        await self._delete_events({"user_id": user_id}, erasure)
        await self._delete(erasure, (self._queue, {"user_id": user_id}, "queued"))

    async def delete_lease(self, user_id: str, erasure: str) -> bool:
        """Delete the lease unless a worker holds the user; returns whether there is none any more."""
        # The worker that has it may go on, and settles what is not there any more; nobody gets it afterwards.
        async with outages():
            await self._leases.update_one({"_id": user_id}, {"$set": {"pending": False}})
        await self._delete(erasure, (self._leases, {"_id": user_id, **_FREE}, "leases"))
        async with outages():
            return await self._leases.find_one({"_id": user_id}, {"_id": 1}) is None

    async def sessions(self, user_id: str, page: Page) -> AsyncGenerator[SessionWithEvents, None]:
        """Yield the sessions of a user, newest first; one that has many events comes several times."""
        async with outages():
            found = self._sessions.find({"user_id": user_id}, batch_size=SESSIONS_AT_ONCE)
            async for document in found.sort([("created_at", DESCENDING), ("_id", DESCENDING)]):
                session = documents.to_session(document)
                after, more = None, True
                while more:
                    events = await page(session.session_id, after, EVENTS_AT_ONCE, SESSION_BYTES - session.nbytes)
                    more = events.more
                    yield SessionWithEvents(session, events.events, more)
                    if more:
                        last = events.events[-1]
                        after = last.created_at, last.event_id

    async def _delete_events(self, query: Document, erasure: str) -> None:
        while ids := await self._ids(self._events, query, EVENTS_AT_ONCE):
            alone = [event_id for event_id in ids if not event_id["s"]]
            of_sessions = [event_id for event_id in ids if event_id["s"]]
            await self._delete(
                erasure,
                (self._events, {"_id": {"$in": of_sessions}}, "events"),
                (self._events, {"_id": {"$in": alone}}, "interactions"),
            )

    async def _delete(self, erasure: str, *which: tuple[Collection, Document, str]) -> None:
        """Delete what these queries find, and count it by kind, or nothing of it."""

        async def work(transaction: Transaction) -> None:
            counts: dict[str, int] = {}
            for collection, query, kind in which:
                deleted = await collection.delete_many(query, session=transaction)
                if deleted.deleted_count:
                    counts[f"erased.{kind}"] = deleted.deleted_count
            if counts:
                await self._erasures.update_one({"_id": erasure}, {"$inc": counts}, session=transaction)

        await in_transaction(self._database, work)

    async def _ids(self, collection: Collection, query: Document, limit: int) -> list[Any]:
        return [found["_id"] async for found in collection.find(query, {"_id": 1}).limit(limit)]
