"""Events in MongoDB."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pymongo.errors import BulkWriteError

from clickstream_service.domain.errors import EventConflict
from clickstream_service.domain.event import EventPage, Stored
from clickstream_service.storage import documents, overtaking
from clickstream_service.storage.event_sorting import (
    Arrival,
    Search,
    being_erased,
    key_of,
    repeated,
    sorted_out,
    user_of,
)
from clickstream_service.storage.group_commit import GroupCommit, Limits
from clickstream_service.storage.indexes import OLDEST_FIRST
from clickstream_service.storage.reading import take
from clickstream_service.storage.transactions import in_transaction
from tideline.mongo.outages import outages
from tideline.rpc import tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from clickstream_service.domain.event import Event
    from clickstream_service.storage.database import Database
    from clickstream_service.storage.erasure_guard import ErasureGuard, Watch
    from clickstream_service.storage.event_sorting import Key, Outcome
    from clickstream_service.storage.mongo_sessions import Requeue

    Document = dict[str, Any]

DUPLICATE_KEY: Final = 11000
WRITERS: Final = 2
"""So many groups are written at a time: like those of two replicas, they may meet without harm."""


class MongoEvents:
    """The collection `session_events`: events of sessions, and interactions that came without one."""

    def __init__(
        self,
        database: Database,
        limits: Limits,
        requeue_in: Requeue,
        now: Callable[[], datetime],
        guard: ErasureGuard,
    ) -> None:
        """`requeue_in` queues the users of submitted sessions again, in the transaction that it is given.

        The `guard` names the users of whom nothing is taken.
        """
        self._guard = guard
        self._database = database
        self._now = now
        self._requeue_in = requeue_in
        self._writes: GroupCommit[Arrival, Outcome] = GroupCommit(
            self._write, lambda arrival: arrival.event.nbytes, limits, writers=WRITERS, name="events"
        )
        self._some_were_there = False

    async def record(self, events: Sequence[Event], *, allow_missing: bool, patient: bool) -> list[Outcome]:
        """Store the events that are not there yet; see `GroupCommit.submit` for `patient`."""
        return await self._writes.submit([Arrival(event, allow_missing) for event in events], patient=patient)

    async def settled(self) -> None:
        """Wait until nothing waits to be written."""
        await self._writes.settled()

    async def lull(self) -> None:
        """Wait until nothing has been written for a moment."""
        await self._writes.lull()

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
    async def _write(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """Insert a group; whatever was there before is compared afterwards, since most events are new."""
        # Whether anybody is being erased is seen before anything is written; whether these are, once they are known.
        searches, erasures = await asyncio.gather(
            self._searches({arrival.event.session_id for arrival in arrivals} - {""}), self._guard.look()
        )
        tracing.link(search.trace for search in searches.values())
        users = {search.user_id for search in searches.values()}
        users.update(event.user_id for event, _ in arrivals if event.user_id and event.session_id not in searches)
        users.discard("")
        watch = await self._guard.watch(users, seen=erasures)
        outcomes, first = sorted_out(arrivals, searches, watch.refused, self._now())
        there = await self._insert(list(first.values()))
        # Of a duplicate too: its first sender may have died before this.
        session_ids = {session_id for session_id, _ in first} - {""}
        await overtaking.fill_in(self._database, session_ids - searches.keys())
        overtaken = await self._tidy_up(session_ids, watch, users)
        if there or overtaken:
            for place, (event, _) in enumerate(arrivals):
                if not isinstance(outcomes[place], Stored | EventConflict):
                    continue
                if overtaken and user_of(event, searches) in overtaken:
                    outcomes[place] = being_erased()
                elif (known := there.get((event.session_id, event.event_id))) is not None:
                    outcomes[place] = repeated(event, known)
        return outcomes

    async def _tidy_up(self, session_ids: Collection[str], watch: Watch, users: Collection[str]) -> frozenset[str]:
        """Do what is to be done once events are in; returns the users whose erasure has begun meanwhile."""
        submitted, overtaken = await asyncio.gather(self._submitted(session_ids), self._guard.overtaken(watch, users))
        if not submitted:
            return overtaken
        await self._requeue_all(submitted)
        # What was queued just now is something else that an erasure may have missed.
        return overtaken | await self._guard.overtaken(watch, users)

    async def _searches(self, session_ids: Collection[str]) -> dict[str, Search]:
        """Return what events take from each session; sessions that are not there are left out."""
        if not session_ids:
            return {}
        fields = dict.fromkeys(
            (
                *("search_results.object_id", "search_results.rank", "user_id"),
                *("search_query.text", "created_at", "created_us", "trace"),
            ),
            1,
        )
        found = self._database.sessions.find({"_id": {"$in": list(session_ids)}}, fields)
        return {
            document["_id"]: Search(
                {result["object_id"]: result["rank"] for result in document["search_results"]},
                document["user_id"],
                documents.query_text(document),
                documents.created_at(document),
                document.get("trace", ""),
            )
            for document in await found.to_list(None)
        }

    async def _insert(self, inserts: Sequence[Document]) -> dict[Key, Document]:
        """Insert what is not there, and return what was."""
        if not inserts:
            return {}
        # One that is there already makes the database insert those around it one by one. Where some were of late, which
        # is so for as long as a sender repeats itself, looking first is cheaper.
        known = await self._there(inserts) if self._some_were_there else {}
        new = [each for each in inserts if key_of(each) not in known] if known else inserts
        try:
            if new:
                await self._database.session_events.insert_many(new, ordered=False)
        except BulkWriteError as error:
            failures = error.details["writeErrors"]
            if error.details["writeConcernErrors"] or any(failed["code"] != DUPLICATE_KEY for failed in failures):
                raise
            known |= await self._there([new[failed["index"]] for failed in failures])
        self._some_were_there = bool(known)
        return known

    async def _there(self, inserts: Sequence[Document]) -> dict[Key, Document]:
        """Return what is stored under the ids of these."""
        query = {"_id": {"$in": [each["_id"] for each in inserts]}}
        found = self._database.session_events.find(query, {"fingerprint": 1, "flags": 1, "user_id": 1})
        return {key_of(document): document for document in await found.to_list(None)}

    @outages()
    async def requeue(self, session_ids: Collection[str]) -> None:
        """Queue the users of the sessions that were submitted already, so that the next run sees what changed.

        Looked up after the events are in, or gone: whoever submits a session from now on finds them so.
        """
        if submitted := await self._submitted(session_ids):
            await self._requeue_all(submitted)

    async def _submitted(self, session_ids: Collection[str]) -> list[str]:
        if not session_ids:
            return []
        submitted = {"_id": {"$in": list(session_ids)}, "submitted": True, "irrelevant": {"$exists": False}}
        found = await self._database.sessions.find(submitted, {"_id": 1}).to_list(None)
        return [document["_id"] for document in found]

    async def _requeue_all(self, session_ids: Sequence[str]) -> None:
        await in_transaction(self._database, lambda transaction: self._requeue_in(session_ids, transaction))
