"""Batches, and the sessions in them, in MongoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from clickstream_service.domain.batch import Batch, BatchState
from clickstream_service.storage.hydration import groups, hydrated
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import datetime

    from clickstream_service.domain.session import SessionWithEvents
    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Collection, Document

_STATES: Final = {"open": BatchState.OPEN, "released": BatchState.RELEASED}
_NAMES: Final = {state: name for name, state in _STATES.items()}


class MongoBatches:
    """Batches are opened, and counted, by whoever writes sessions; here they are read and released.

    What a failover may still undo is not shown: its number would be given to another session later, which a reader
    who has gone past it would miss.
    """

    def __init__(self, database: Database) -> None:
        settled = ReadConcern("majority")
        self._database = database
        self._batches: Collection = database.session_batches.with_options(read_concern=settled)
        self._sessions: Collection = database.sessions.with_options(read_concern=settled)

    @outages()
    async def find(self, batch_id: str) -> Batch | None:
        return _to_batch(await self._batches.find_one({"_id": batch_id}))

    @outages()
    async def find_open(self) -> Batch | None:
        return _to_batch(await self._batches.find_one({"state": "open"}))

    @outages()
    async def page(self, state: BatchState | None, after: tuple[datetime, str] | None, limit: int) -> list[Batch]:
        """Return batches that were opened before `after`, an opening time and a batch id; newest first."""
        query: Document = {"state": {"$in": [_NAMES[state]] if state else list(_STATES)}}
        if after is not None:
            at, batch_id = after
            query |= {"opened_at": {"$lte": at}, "$or": [{"opened_at": {"$lt": at}}, {"_id": {"$lt": batch_id}}]}
        newest_first = [("opened_at", DESCENDING), ("_id", DESCENDING)]
        return [_batch(found) async for found in self._batches.find(query).sort(newest_first).limit(limit)]

    @outages()
    async def release(self, release_id: str, at: datetime) -> Batch | None:
        """Release the open batch, unless `release_id` has released one; None when there is none to release.

        The document of a batch is where its sessions are counted, too: who adds to it at the same time comes before,
        and is counted, or sees that it is released.
        """
        if (released := await self._released_by(release_id)) is not None:
            return released
        change = {"$set": {"state": "released", "released_at": at, "release_id": release_id}}
        try:
            closed = await self._batches.find_one_and_update(
                {"state": "open"}, change, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError:  # a retry of this release was faster
            return await self._released_by(release_id)
        return _to_batch(closed) or await self._released_by(release_id)

    async def sessions(
        self, batch_id: str, after_number: int, upto_number: int | None, limit: int, events_limit: int
    ) -> AsyncGenerator[SessionWithEvents, None]:
        """Yield up to `limit` sessions by number, each with its first events."""
        numbers: dict[str, Any] = {"$gt": after_number}
        if upto_number is not None:
            numbers["$lte"] = upto_number
        async with outages():
            found = self._sessions.find({"batch_id": batch_id, "session_number": numbers})
            async for group in groups(found.sort("session_number", ASCENDING).limit(limit)):
                async for session in hydrated(self._database, group, events_limit):
                    yield session

    async def _released_by(self, release_id: str) -> Batch | None:
        """Find a batch by the release that closed it, by a write that changes nothing.

        Unlike a read, it is answered only once what it has seen is durable.
        """
        nothing = {"$set": {"state": "released"}}
        return _to_batch(await self._batches.find_one_and_update({"release_id": release_id}, nothing))


def _to_batch(document: Document | None) -> Batch | None:
    return None if document is None else _batch(document)


def _batch(document: Document) -> Batch:
    return Batch(
        batch_id=document["_id"],
        state=_STATES[document["state"]],
        session_count=document["count"],
        opened_at=document["opened_at"],
        released_at=document.get("released_at"),
        release_id=document.get("release_id", ""),
    )
