"""Sessions and events in MongoDB, read to learn from them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pymongo import ASCENDING

from clickstream_service.domain.training import Action, Search
from clickstream_service.searches import Order
from clickstream_service.storage.indexes import OLDEST_FIRST
from clickstream_service.storage.structs import unescaped
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from clickstream_service.domain.training import Selection
    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Document

GROUP: Final = 200
"""So many sessions have their events looked up at once."""
EVENTS_AT_ONCE: Final = 5_000
MAX_ACTIONS: Final = 10_000
"""So many events of a session are looked at, the first ones: more are no person's."""

_NOT_NOISE: Final = {"noise.0": {"$exists": False}}
_SORTED: Final = {
    Order.QUERY: ("by_query", [("query_key", ASCENDING), ("_id", ASCENDING)]),
    Order.TIME: ("newest_first", [("created_at", ASCENDING), ("_id", ASCENDING)]),
    Order.BATCH: ("of_batch_by_number", [("batch_id", ASCENDING), ("session_number", ASCENDING)]),
}
_FIELDS: Final = dict.fromkeys(
    (
        "user_id", "search_query", "query_key", "search_meta.surface", "irrelevant", "batch_id", "session_number",
        "search_results.object_id", "search_results.rank",
    ),
    1,
)  # fmt: skip
_ACTION_FIELDS: Final = {**dict.fromkeys(("session_id", "object_id", "event_types", "dwell_us"), 1), "_id": 0}


class MongoTraining:
    """The collections `sessions` and `session_events`; every order is that of an index, so nothing is sorted."""

    def __init__(self, database: Database) -> None:
        self._sessions = database.sessions
        self._events = database.session_events

    async def searches(self, selection: Selection, order: Order) -> AsyncGenerator[list[Search], None]:
        """Yield the selected sessions and what counts of their events, some at a time, in flat memory."""
        index, by = _SORTED[order]
        fields = {**_FIELDS, "query_vector": 1} if selection.vectors else _FIELDS
        cursor = self._sessions.find(_query(selection, order), fields).sort(by).hint(index)
        try:
            while group := await self._next(cursor):
                actions = await self._actions(group, selection)
                yield [_to_search(document, actions.get(document["_id"], ())) for document in group]
        finally:
            await cursor.close()

    @staticmethod
    @outages()
    async def _next(cursor: Any) -> list[Document]:
        group: list[Document] = await cursor.to_list(GROUP)
        return group

    @outages()
    async def _actions(self, group: Sequence[Document], selection: Selection) -> dict[str, list[Action]]:
        query: Document = {"session_id": {"$in": [document["_id"] for document in group]}, **_NOT_NOISE}
        if selection.recorded_before is not None:
            query["recorded_at"] = {"$lt": selection.recorded_before}
        cursor = self._events.find(query, _ACTION_FIELDS).sort(OLDEST_FIRST).hint("of_session_oldest_first")
        actions: dict[str, list[Action]] = {}
        while some := await cursor.to_list(EVENTS_AT_ONCE):
            for event in some:
                of_session = actions.setdefault(event["session_id"], [])
                if len(of_session) < MAX_ACTIONS:
                    of_session.append(_to_action(event))
        return actions


def _query(selection: Selection, order: Order) -> Document:
    query: Document = {**_NOT_NOISE}
    if order is Order.QUERY:
        query["query_key"] = {"$exists": True}
    if selection.batch_id:
        query["batch_id"] = selection.batch_id
    if selection.created_from is not None:
        query.setdefault("created_at", {})["$gte"] = selection.created_from
    if selection.created_before is not None:
        query.setdefault("created_at", {})["$lt"] = selection.created_before
    if selection.recorded_before is not None:
        query["recorded_at"] = {"$lt": selection.recorded_before}
    if not selection.include_irrelevant:
        query["irrelevant"] = {"$exists": False}
    if selection.surface:
        query["search_meta.surface"] = selection.surface
    if selection.device:
        query["search_meta.device"] = selection.device
    return query


def _to_search(document: Document, actions: Sequence[Action]) -> Search:
    query = document.get("search_query")
    if query is not None:
        query = query["text"] if "text" in query else unescaped(query["structured"])
    surface = document.get("search_meta", {}).get("surface", "")
    return Search(
        session_id=document["_id"],
        user_id=document["user_id"],
        query=query,
        query_key=document.get("query_key"),
        query_vector=document.get("query_vector", b""),
        results=tuple([(result["object_id"], result["rank"]) for result in document["search_results"]]),
        surface=surface if isinstance(surface, str) else "",
        irrelevant="irrelevant" in document,
        batch_id=document["batch_id"],
        session_number=document["session_number"],
        actions=tuple(actions),
    )


def _to_action(event: Document) -> Action:
    dwell_us = event.get("dwell_us")
    dwell = None if dwell_us is None else timedelta(microseconds=dwell_us)
    return Action(event["object_id"], tuple(event["event_types"]), dwell)
