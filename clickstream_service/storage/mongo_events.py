"""Events in MongoDB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pymongo import ASCENDING
from pymongo.errors import BulkWriteError

from clickstream_service.domain.errors import EventConflict, SessionNotFound
from clickstream_service.domain.event import Event, EventFlag, EventPage, Stored
from clickstream_service.storage import documents
from clickstream_service.storage.database import outages
from clickstream_service.storage.group_commit import GroupCommit, Limits
from clickstream_service.storage.reading import take
from clickstream_service.storage.transactions import in_transaction

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from clickstream_service.storage.database import Database
    from clickstream_service.storage.mongo_sessions import Requeue

    Document = dict[str, Any]
    Outcome = Stored | EventConflict | SessionNotFound

OLDEST_FIRST: Final = [("session_id", ASCENDING), ("created_at", ASCENDING), ("_id.e", ASCENDING)]
DUPLICATE_KEY: Final = 11000


@dataclass(frozen=True, slots=True)
class _Arrival:
    """An event on its way in, and whether it may come before its session."""

    event: Event
    allow_missing: bool

    @property
    def key(self) -> tuple[str, str]:
        return self.event.session_id, self.event.event_id


class MongoEvents:
    """The collection `session_events`."""

    def __init__(self, database: Database, limits: Limits, requeue_in: Requeue) -> None:
        """`requeue_in` queues the users of submitted sessions again, in the transaction that it is given."""
        self._database = database
        self._requeue_in = requeue_in
        self._writes: GroupCommit[_Arrival, Outcome] = GroupCommit(
            self._write, lambda arrival: arrival.event.nbytes, limits
        )

    async def record(self, events: Sequence[Event], *, allow_missing: bool, patient: bool) -> list[Outcome]:
        """Store the events that are not there yet; see `GroupCommit.submit` for `patient`."""
        return await self._writes.submit([_Arrival(event, allow_missing) for event in events], patient=patient)

    async def close(self) -> None:
        """Write what waits."""
        await self._writes.close()

    @outages()
    async def page(self, session_id: str, after: tuple[datetime, str] | None, limit: int, max_bytes: int) -> EventPage:
        """Return up to `limit` events after (created_at, id), oldest first; see `take` for `max_bytes`."""
        query: Document = {"session_id": session_id}
        if after is not None:
            at, event_id = after
            query["created_at"] = {"$gte": at}
            query["$nor"] = [{"created_at": at, "_id.e": {"$lte": event_id}}]
        cursor = self._database.session_events.find(query).sort(OLDEST_FIRST)
        events, more = await take(cursor, documents.to_event, limit, max_bytes)
        return EventPage(tuple(events), more)

    @outages()
    async def _write(self, arrivals: Sequence[_Arrival]) -> list[Outcome]:
        """Insert a group; whatever was there before is compared afterwards, since most events are new."""
        shown = await self._shown({arrival.event.session_id for arrival in arrivals})
        first: dict[tuple[str, str], _Arrival] = {}
        for arrival in arrivals:
            if arrival.allow_missing or arrival.event.session_id in shown:
                first.setdefault(arrival.key, arrival)
        flags = {key: _flags(arrival.event, shown) for key, arrival in first.items()}
        inserts = [documents.from_event(arrival.event, flags[key]) for key, arrival in first.items()]
        there = await self._insert(inserts)
        # A duplicate too: its first sender may have died before this.
        await self._requeue({arrival.event.session_id for arrival in first.values()})
        outcomes: list[Outcome] = []
        for arrival in arrivals:
            known, storable = there.get(arrival.key), first.get(arrival.key)
            if storable is None:
                outcomes.append(SessionNotFound("no session has this id"))
            elif known is not None:
                same = arrival.event.fingerprint == known["fingerprint"]
                outcomes.append(_repeated(tuple(map(EventFlag, known.get("flags", ()))), same=same))
            elif arrival is storable:
                outcomes.append(Stored(duplicate=False, flags=flags[arrival.key]))
            else:
                same = arrival.event.fingerprint == storable.event.fingerprint
                outcomes.append(_repeated(flags[arrival.key], same=same))
        return outcomes

    async def _shown(self, session_ids: Collection[str]) -> dict[str, frozenset[str]]:
        """Return the ids of the objects that each session showed; sessions that are not there are left out."""
        found = self._database.sessions.find({"_id": {"$in": list(session_ids)}}, {"search_results.object_id": 1})
        return {
            document["_id"]: frozenset(result["object_id"] for result in document["search_results"])
            for document in await found.to_list(None)
        }

    async def _insert(self, inserts: Sequence[Document]) -> dict[tuple[str, str], Document]:
        """Insert what is not there, and return what was."""
        if not inserts:
            return {}
        try:
            await self._database.session_events.insert_many(inserts, ordered=False)
        except BulkWriteError as error:
            failures = error.details["writeErrors"]
            if error.details["writeConcernErrors"] or any(failed["code"] != DUPLICATE_KEY for failed in failures):
                raise
            keys = [inserts[failed["index"]]["_id"] for failed in failures]
            found = self._database.session_events.find({"_id": {"$in": keys}}, {"fingerprint": 1, "flags": 1})
            return {(document["_id"]["s"], document["_id"]["e"]): document for document in await found.to_list(None)}
        return {}

    async def _requeue(self, session_ids: Collection[str]) -> None:
        """Queue the users of the sessions that were submitted already, so that the next run sees these events.

        Looked up after the events are in: whoever submits a session from now on finds them.
        """
        submitted = {"_id": {"$in": list(session_ids)}, "submitted": True, "irrelevant": {"$exists": False}}
        found = await self._database.sessions.find(submitted, {"_id": 1}).to_list(None)
        if found:
            ids = [document["_id"] for document in found]
            await in_transaction(self._database, lambda transaction: self._requeue_in(ids, transaction))


def _flags(event: Event, shown: Mapping[str, frozenset[str]]) -> tuple[EventFlag, ...]:
    if event.session_id not in shown:
        return (EventFlag.SESSION_MISSING,)
    return () if event.object_id in shown[event.session_id] else (EventFlag.OBJECT_NOT_SHOWN,)


def _repeated(flags: tuple[EventFlag, ...], *, same: bool) -> Stored | EventConflict:
    return Stored(duplicate=True, flags=flags) if same else EventConflict("this id was used for other content")
