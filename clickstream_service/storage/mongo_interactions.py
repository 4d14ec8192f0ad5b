"""Interactions in MongoDB: `session_events` as one list in the order of time."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from pymongo import ASCENDING, DESCENDING

from clickstream_service.domain.interaction import Choice, InteractionPage, Place
from clickstream_service.storage import documents
from clickstream_service.storage.interaction_queries import query
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence

    from clickstream_service.domain.event import Event
    from clickstream_service.storage.database import Database

    Document = dict[str, Any]
    Requeue = Callable[[Collection[str]], Awaitable[None]]

READ_AT_ONCE: Final = 1_000


class MongoInteractions:
    """The collection `session_events`, whatever the session."""

    def __init__(self, database: Database, requeue: Requeue) -> None:
        """`requeue` queues the users of sessions again that were submitted."""
        self._database = database
        self._requeue = requeue

    @outages()
    async def get(self, session_id: str, interaction_id: str) -> Event | None:
        """Return an interaction; None when it is not there."""
        found = await self._database.session_events.find_one({"_id": {"s": session_id, "e": interaction_id}})
        return None if found is None else documents.to_event(found)

    @outages()
    async def delete(self, session_id: str, interaction_id: str) -> bool:
        """Delete an interaction and have it unlearned; returns whether it was there."""
        deleted = await self._database.session_events.delete_one({"_id": {"s": session_id, "e": interaction_id}})
        # When it was gone already, too: whoever deleted it may have died before this.
        await self._requeue({session_id} - {""})
        return deleted.deleted_count > 0

    async def page(
        self, choice: Choice, after: Place | None, limit: int, max_bytes: int, *, newest_first: bool
    ) -> InteractionPage:
        """Return up to `limit` interactions after a place in time; stops before `max_bytes`, but takes one."""
        taken: list[Event] = []
        nbytes = 0
        found = self._read(choice, after, newest_first=newest_first, at_once=min(limit + 1, READ_AT_ONCE))
        async with aclosing(found) as interactions:
            async for event in interactions:
                nbytes += event.nbytes_recorded
                if taken and (len(taken) == limit or nbytes > max_bytes):
                    return InteractionPage(tuple(taken), more=True)
                taken.append(event)
        return InteractionPage(tuple(taken), more=False)

    def export(self, choice: Choice) -> AsyncGenerator[Event, None]:
        """Yield all interactions, oldest first."""
        return self._read(choice, None, newest_first=False, at_once=READ_AT_ONCE)

    async def _read(
        self, choice: Choice, after: Place | None, *, newest_first: bool, at_once: int
    ) -> AsyncGenerator[Event, None]:
        direction = DESCENDING if newest_first else ASCENDING
        async with outages():
            cursor = self._database.session_events.find(
                query(choice, after, newest_first=newest_first), batch_size=at_once
            ).sort([("created_at", direction), ("_id", direction)])
            try:
                while group := await cursor.to_list(at_once):
                    left_out = set() if choice.include_excluded else await self._irrelevant(group)
                    for document in group:
                        if document["session_id"] not in left_out:
                            yield documents.to_event(document)
            finally:
                await cursor.close()

    async def _irrelevant(self, group: Sequence[Document]) -> set[str]:
        """Return the sessions of these events that do not count."""
        ids = {document["session_id"] for document in group} - {""}
        irrelevant = {"_id": {"$in": list(ids)}, "irrelevant": {"$exists": True}}
        return {session["_id"] async for session in self._database.sessions.find(irrelevant, {"_id": 1})}
