"""What counts of sessions and events, read for the rollups."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from clickstream_service.domain.contribution import MAX_EVENTS, Contribution, EventFacts, SessionFacts, contribute
from clickstream_service.storage.indexes import OLDEST_FIRST
from clickstream_service.storage.structs import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motor.motor_asyncio import AsyncIOMotorClientSession
    from pymongo.client_session import ClientSession
    from pymongo.collection import Collection as BlockingCollection

    from clickstream_service.domain.rollup import RollupRules
    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Document

Unit = tuple[str, str]
"""What contributes: (session id, "") for a session with its events, ("", event id) for an event without one."""

SURFACE: Final = "surface"
MAX_VALUE_BYTES: Final = 256


class FactReader:
    """Turns what is stored into contributions, by the same rules for all."""

    def __init__(self, database: Database, rules: RollupRules) -> None:
        self._sessions: BlockingCollection[Document] = database.sessions.delegate
        self._events: BlockingCollection[Document] = database.session_events.delegate
        self._threshold = rules.long_view_threshold
        self._segments = {field: next(iter(escaped({field: None}))) for field in rules.segments if field != SURFACE}
        meta_fields = (SURFACE, *self._segments.values())
        self._session_fields = {
            **dict.fromkeys(("created_at", "search_query.text", "irrelevant.at", "noise"), 1),
            **dict.fromkeys(("search_results.object_id", "search_results.rank"), 1),
            **{f"search_meta.{field}": 1 for field in meta_fields},
        }
        self._event_fields = {
            **dict.fromkeys(("session_id", "created_at", "object_id", "event_types", "dwell_us", "noise"), 1),
            **{f"meta.{field}": 1 for field in meta_fields},
        }

    async def contributions(
        self, units: Iterable[Unit], transaction: AsyncIOMotorClientSession | None = None
    ) -> dict[Unit, Contribution]:
        """Return what each unit adds; those that add nothing are left out."""
        # All of it in one thread: calls do not have to wait for it, and documents are not handed over one by one.
        delegate = None if transaction is None else transaction.delegate
        work = asyncio.create_task(asyncio.to_thread(self._contributions, list(units), delegate))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # Whoever ends the transaction now has to have it alone.
            await asyncio.gather(work, return_exceptions=True)
            raise

    def _contributions(self, units: Sequence[Unit], transaction: ClientSession | None) -> dict[Unit, Contribution]:
        ids = [session_id for session_id, _ in units if session_id]
        alone = [event_id for session_id, event_id in units if not session_id]
        found: dict[Unit, Contribution] = {}
        if ids:
            query = self._sessions.find({"_id": {"$in": ids}}, self._session_fields, session=transaction)
            sessions = {session["_id"]: session for session in query}
            counting = [each for each in ids if each not in sessions or _counts(sessions[each])]
            events = self._events_of(counting, transaction)
            for session_id in counting:
                contribution = self._of_session(sessions.get(session_id), events.get(session_id, ()))
                if contribution is not None:
                    found[session_id, ""] = contribution
        if alone:
            keys = [{"s": "", "e": event_id} for event_id in alone]
            for event in self._events.find({"_id": {"$in": keys}}, self._event_fields, session=transaction):
                contribution = self._contribute(event.get("meta", {}), None, [_event_facts(event)])
                if contribution is not None:
                    found["", event["_id"]["e"]] = contribution
        return found

    def _events_of(self, session_ids: Sequence[str], transaction: ClientSession | None) -> dict[str, list[EventFacts]]:
        """Return the first events of each session, oldest first; however many more there are, they are not read."""
        events: dict[str, list[EventFacts]] = {}
        fields = {**self._event_fields, "_id": 0}
        left = list(session_ids)
        while left:
            asked, left = left, []
            query = {"session_id": {"$in": asked}}
            found = self._events.find(query, fields, session=transaction, batch_size=MAX_EVENTS)
            for event in found.sort(OLDEST_FIRST):
                session_id = event["session_id"]
                of_session = events.setdefault(session_id, [])
                of_session.append(_event_facts(event))
                if len(of_session) == MAX_EVENTS:
                    # Go on with the next session: they come in order of their ids.
                    left = [each for each in asked if each > session_id]
                    break
        return events

    def _of_session(self, session: Document | None, events: Sequence[EventFacts]) -> Contribution | None:
        if session is None:
            return self._contribute({}, None, events)
        results = [(result["object_id"], result["rank"]) for result in session["search_results"]]
        text = session.get("search_query", {}).get("text", "")
        facts = SessionFacts(session["created_at"], text, results)
        return self._contribute(session.get("search_meta", {}), facts, events)

    def _contribute(
        self, meta: Document, session: SessionFacts | None, events: Sequence[EventFacts]
    ) -> Contribution | None:
        segments = tuple((field, _value(meta.get(key))) for field, key in self._segments.items())
        return contribute(_value(meta.get(SURFACE)), segments, session, events, self._threshold)


def _counts(session: Document) -> bool:
    return "irrelevant" not in session and not session.get("noise")


def _event_facts(event: Document) -> EventFacts:
    dwell_us = event.get("dwell_us")
    dwell = None if dwell_us is None else timedelta(microseconds=dwell_us)
    noise = bool(event.get("noise"))
    return EventFacts(event["created_at"], event["object_id"], event["event_types"], dwell, noise)


def _value(value: object) -> str:
    """Return the value of a segment as text; what is no single value is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    text = value if isinstance(value, str) else ""
    encoded = text.encode()
    return text if len(encoded) <= MAX_VALUE_BYTES else encoded[:MAX_VALUE_BYTES].decode(errors="ignore")
