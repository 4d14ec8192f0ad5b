"""OpenSearch User Behavior Insights: queries and events as ndjson, with or without the lines of the bulk API.

A query becomes a session. Clients of OpenSearch send several requests under one `query_id` (as the user types, for
facets, for further pages): together they are one session, of the request that returned most. Results are the hits that
were logged, else, and behind them, the objects of the impressions in the order of their `ordinal`. Some clients count
ordinals from 1, which shows where a query has both.

An event whose query was logged becomes an event of that session, any other an interaction that stands alone.

The queries, and the impressions of each, are held in memory while the file is read: some 300 bytes a query, and 200 an
impression.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from clickstream_service.importers import values
from clickstream_service.importers.items import (
    UNREADABLE,
    BadLine,
    FoundInteraction,
    FoundSession,
    Item,
    PassedOver,
    Rejected,
    why,
)
from tideline.clickstream.v1.interaction_pb2 import Interaction
from tideline.clickstream.v1.session_pb2 import SearchQuery, Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from clickstream_service.importers.names import Names
    from clickstream_service.importers.source import Line, Source

MERGED: Final = "queries that are one with another of their query_id"

_ACTIONS: Final = ({"index"}, {"create"})
_NO_OBJECTS: Final = ("filter_data", "click_location")
"""What `object_id_field` says of events that are about no result."""
_RESULTS: Final = 1_000
_LONGEST_S: Final = 31_622_400
_TAKEN: Final = {"action_name", "query_id", "user_id", "client_id", "timestamp", "user_query"}


@dataclass(slots=True)
class _Query:
    """All that was logged under one `query_id`: impressions may come before the query itself."""

    line: int = 0
    """Of the request that it is told by; 0 when none was logged."""
    text: str = ""
    user_id: str = ""
    created_at: datetime | None = None
    hits: list[str] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    others: list[int] = field(default_factory=list)
    """The lines of the other requests."""
    impressions: dict[str, int] = field(default_factory=dict)
    """The smallest ordinal of each object."""

    def first_ordinal(self) -> int:
        """Return what the client counts ordinals from, 0 or 1, as far as hits and impressions tell together."""
        places = {object_id: place for place, object_id in enumerate(self.hits)}
        offsets = Counter(
            ordinal - places[object_id] for object_id, ordinal in self.impressions.items() if object_id in places
        )
        return 1 if offsets[1] > offsets[0] else 0


class Ubi:
    """Reads queries and events of UBI."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def read(self, source: Source) -> Iterator[Item]:
        """Yield the sessions, and then the events; the file is read twice."""
        queries: dict[str, _Query] = {}
        yield from self._note(source, queries)
        for query_id, query in queries.items():
            if query.line:
                yield FoundSession(query.line, _session(query_id, query))
                yield from (PassedOver(other, MERGED) for other in query.others)
        from_one = {query_id for query_id, query in queries.items() if query.first_ordinal() == 1}
        queries.clear()
        for line, given_id, logged in _documents(source):
            if isinstance(logged, dict) and "action_name" in logged:
                try:
                    yield self._event(line, given_id, logged, from_one)
                except UNREADABLE as error:
                    yield Rejected(line.number, why(error), line.readable)

    def _note(self, source: Source, queries: dict[str, _Query]) -> Iterator[Rejected]:
        """Fill `queries`; yields the lines that cannot be read, but for events: they are read again."""
        for line, _, logged in _documents(source):
            try:
                document = _checked(logged)
                if "action_name" in document:
                    self._note_impression(document, queries)
                else:
                    _note_query(line.number, document, queries)
            except UNREADABLE as error:
                if not isinstance(logged, dict) or "action_name" not in logged:
                    yield Rejected(line.number, why(error), line.readable)

    def _note_impression(self, document: dict[str, Any], queries: dict[str, _Query]) -> None:
        query_id = values.text(document, "query_id")
        attributes = values.nested(document, "event_attributes")
        if query_id and self._names.type_of(values.text(document, "action_name")) == "view":
            object_id = _object_id(attributes)
            ordinal = values.count(values.nested(attributes, "position"), "ordinal")
            if object_id and ordinal is not None:
                shown = queries.setdefault(query_id, _Query()).impressions
                shown[object_id] = min(ordinal, shown.get(object_id, ordinal))

    def _event(self, line: Line, given_id: str, document: dict[str, Any], from_one: set[str]) -> FoundInteraction:
        query_id = values.text(document, "query_id")
        attributes = values.nested(document, "event_attributes")
        action = values.needed(document, "action_name")
        types = [self._names.type_of(action)]
        results = values.count(attributes, "result_count")
        if results == 0 and "zero_results" not in types:
            types.append("zero_results")
        event = Interaction(
            interaction_id=given_id or values.id_of(line),
            feature_id=_object_id(attributes),
            interaction_types=types,
            position=_position(attributes, 1 if query_id in from_one else 0),
            result_set_size=results,
            occurred_at=values.timestamp(document, "timestamp", values.MILLISECONDS),
        )
        dwell = values.number(attributes, "dwell_time")
        if dwell is not None and 0 <= dwell <= _LONGEST_S:
            event.duration.FromTimedelta(timedelta(seconds=dwell))
        rest = {name: value for name, value in document.items() if name not in _TAKEN}
        values.fill(event.metadata, {"action_name": action, **rest})
        alone = Interaction()
        alone.CopyFrom(event)
        alone.user_id, alone.query_text = _user_id(document), values.text(document, "user_query")
        if not query_id:
            return FoundInteraction(line.number, alone)
        alone.metadata["query_id"] = query_id
        event.session_id = query_id
        return FoundInteraction(line.number, event, alone)


def _documents(source: Source) -> Iterator[tuple[Line, str, Any]]:
    """Yield the line of each query and event, its id in OpenSearch if it is known, and what it says, or is wrong."""
    given_id = ""
    for line in source.lines():
        try:
            document = values.json_object(line)
        except BadLine as bad:
            yield line, "", bad
            continue
        action = next(iter(document.values())) if document.keys() in _ACTIONS else None
        if isinstance(action, dict):
            given_id = str(action.get("_id") or "")
        elif isinstance(document.get("_source"), dict):
            yield line, str(document.get("_id") or ""), document["_source"]
        else:
            yield line, given_id, document
            given_id = ""


def _checked(logged: Any) -> dict[str, Any]:
    if isinstance(logged, BadLine):
        raise logged
    document: dict[str, Any] = logged
    return document


def _note_query(line: int, document: dict[str, Any], queries: dict[str, _Query]) -> None:
    query_id = values.needed(document, "query_id")
    created_at = values.time(document, "timestamp", values.MILLISECONDS)
    hits = document.get("query_response_hit_ids") or []
    if not isinstance(hits, list):
        raise BadLine("query_response_hit_ids is no list")
    read = _Query(
        line=line,
        text=values.text(document, "user_query"),
        user_id=_user_id(document),
        created_at=created_at,
        hits=list(dict.fromkeys(map(str, hits)))[:_RESULTS],
        meta={
            "application": document.get("application"),
            "query_attributes": document.get("query_attributes"),
            "query": document.get("query"),
        },
    )
    known = queries.get(query_id)
    if known is None:
        queries[query_id] = read
        return
    told, other = (known, read) if known.line and len(known.hits) >= len(read.hits) else (read, known)
    told.others = [*known.others, *([other.line] if other.line else [])]
    told.impressions = known.impressions
    told.created_at = min(created_at, known.created_at or created_at)
    queries[query_id] = told


def _session(query_id: str, query: _Query) -> Session:
    session = Session(
        session_id=query_id,
        user_id=query.user_id,
        search_query=SearchQuery(text=query.text),
    )
    if query.created_at is not None:
        session.created_at.FromDatetime(query.created_at)
    rank = 0
    for object_id in query.hits:
        rank += 1
        session.search_results.add(object_id=object_id, rank=rank)
    first = query.first_ordinal()
    known = set(query.hits)
    for ordinal, object_id in sorted((ordinal, object_id) for object_id, ordinal in query.impressions.items()):
        if object_id not in known and len(session.search_results) < _RESULTS:
            rank = max(rank + 1, ordinal + 1 - first)
            session.search_results.add(object_id=object_id, rank=rank)
    values.fill(session.search_meta, query.meta)
    return session


def _user_id(document: dict[str, Any]) -> str:
    return values.text(document, "user_id") or values.text(document, "client_id")


def _position(attributes: dict[str, Any], first: int) -> int | None:
    """Return the place among the results, counted from 0, of an ordinal that counts from `first`."""
    ordinal = values.count(values.nested(attributes, "position"), "ordinal")
    return None if ordinal is None or ordinal < first else ordinal - first


def _object_id(attributes: dict[str, Any]) -> str:
    """Return the object of an event; empty for what is about a filter, or a place on the page."""
    found = values.nested(attributes, "object") or values.nested(attributes, "data")
    return "" if found.get("object_id_field") in _NO_OBJECTS else values.text(found, "object_id")
