"""Events in MongoDB."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pymongo import ASCENDING
from pymongo.errors import BulkWriteError

from clickstream_service.domain.errors import EventConflict, SessionNotFound, UserBeingErased
from clickstream_service.domain.event import Event, EventFlag, EventPage, Stored
from clickstream_service.storage import documents, overtaking
from clickstream_service.storage.database import outages
from clickstream_service.storage.group_commit import GroupCommit, Limits
from clickstream_service.storage.reading import take
from clickstream_service.storage.transactions import in_transaction
from tideline.errors import InvalidField

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from clickstream_service.storage.database import Database
    from clickstream_service.storage.erasure_guard import ErasureGuard
    from clickstream_service.storage.mongo_sessions import Requeue

    Document = dict[str, Any]
    Fault = SessionNotFound | InvalidField | UserBeingErased
    Outcome = Stored | EventConflict | Fault

OLDEST_FIRST: Final = [("session_id", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)]
DUPLICATE_KEY: Final = 11000


@dataclass(frozen=True, slots=True)
class _Arrival:
    """An event on its way in, and whether it may come before its session."""

    event: Event
    allow_missing: bool

    @property
    def key(self) -> tuple[str, str]:
        return self.event.session_id, self.event.event_id


@dataclass(frozen=True, slots=True)
class _Search:
    """What its events take from a session."""

    ranks: Mapping[str, int]
    user_id: str
    query_text: str
    created_at: datetime


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
        searches = await self._searches({arrival.event.session_id for arrival in arrivals} - {""})
        user_of = {arrival.key: _user(arrival.event, searches) for arrival in arrivals}
        users = set(user_of.values()) - {""}
        watch = await self._guard.watch(users)
        faults: list[Fault | None] = [
            _being_erased() if user_of[arrival.key] in watch.refused else _fault(arrival, searches)
            for arrival in arrivals
        ]
        first: dict[tuple[str, str], _Arrival] = {}
        for arrival, fault in zip(arrivals, faults, strict=True):
            if fault is None:
                first.setdefault(arrival.key, arrival)
        flags = {key: _flags(arrival.event, searches) for key, arrival in first.items()}
        now = self._now()
        inserts = [
            documents.from_event(_filled(arrival.event, searches), flags[key], now) for key, arrival in first.items()
        ]
        there = await self._insert(inserts)
        # A duplicate too: its first sender may have died before this.
        session_ids = {arrival.event.session_id for arrival in first.values()} - {""}
        await overtaking.fill_in(self._database, session_ids - searches.keys())
        await self.requeue(session_ids)
        overtaken = await self._guard.overtaken(watch, users)
        outcomes: list[Outcome] = []
        for arrival, fault in zip(arrivals, faults, strict=True):
            if fault is not None:
                outcomes.append(fault)
                continue
            if user_of[arrival.key] in overtaken:
                outcomes.append(_being_erased())
                continue
            known, storable = there.get(arrival.key), first[arrival.key]
            if known is not None:
                same = arrival.event.fingerprint == known["fingerprint"]
                outcomes.append(_repeated(tuple(map(EventFlag, known.get("flags", ()))), same=same))
            elif arrival is storable:
                outcomes.append(Stored(duplicate=False, flags=flags[arrival.key]))
            else:
                same = arrival.event.fingerprint == storable.event.fingerprint
                outcomes.append(_repeated(flags[arrival.key], same=same))
        return outcomes

    async def _searches(self, session_ids: Collection[str]) -> dict[str, _Search]:
        """Return what events take from each session; sessions that are not there are left out."""
        if not session_ids:
            return {}
        fields = dict.fromkeys(
            (
                *("search_results.object_id", "search_results.rank", "user_id"),
                *("search_query.text", "created_at", "created_us"),
            ),
            1,
        )
        found = self._database.sessions.find({"_id": {"$in": list(session_ids)}}, fields)
        return {
            document["_id"]: _Search(
                {result["object_id"]: result["rank"] for result in document["search_results"]},
                document["user_id"],
                documents.query_text(document),
                documents.created_at(document),
            )
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

    @outages()
    async def requeue(self, session_ids: Collection[str]) -> None:
        """Queue the users of the sessions that were submitted already, so that the next run sees what changed.

        Looked up after the events are in, or gone: whoever submits a session from now on finds them so.
        """
        if not session_ids:
            return
        submitted = {"_id": {"$in": list(session_ids)}, "submitted": True, "irrelevant": {"$exists": False}}
        found = await self._database.sessions.find(submitted, {"_id": 1}).to_list(None)
        if found:
            ids = [document["_id"] for document in found]
            await in_transaction(self._database, lambda transaction: self._requeue_in(ids, transaction))


def _user(event: Event, searches: Mapping[str, _Search]) -> str:
    search = searches.get(event.session_id)
    return event.user_id if search is None else search.user_id


def _being_erased() -> UserBeingErased:
    return UserBeingErased("the user is being erased", field="user_id")


def _fault(arrival: _Arrival, searches: Mapping[str, _Search]) -> SessionNotFound | InvalidField | None:
    event = arrival.event
    search = searches.get(event.session_id)
    if search is None:
        return None if arrival.allow_missing or not event.session_id else SessionNotFound("no session has this id")
    if event.user_id and event.user_id != search.user_id:
        return InvalidField("is not the user of the session", field="user_id")
    if event.query_text and event.query_text != search.query_text:
        return InvalidField("is not the text that the session searched for", field="query_text")
    return None


def _filled(event: Event, searches: Mapping[str, _Search]) -> Event:
    search = searches.get(event.session_id)
    return event if search is None else replace(event, user_id=search.user_id, query_text=search.query_text)


def _flags(event: Event, searches: Mapping[str, _Search]) -> tuple[EventFlag, ...]:
    if not event.session_id:
        return ()
    search = searches.get(event.session_id)
    if search is None:
        return (EventFlag.SESSION_MISSING,)
    rank = search.ranks.get(event.object_id)
    odd = {
        EventFlag.OBJECT_NOT_SHOWN: event.object_id and rank is None,
        EventFlag.OUT_OF_SEQUENCE: event.created_at < search.created_at,
        EventFlag.POSITION_MISMATCH: rank is not None and event.position is not None and event.position + 1 != rank,
    }
    return tuple(flag for flag, is_odd in odd.items() if is_odd)


def _repeated(flags: tuple[EventFlag, ...], *, same: bool) -> Stored | EventConflict:
    return Stored(duplicate=True, flags=flags) if same else EventConflict("this id was used for other content")
