"""Metarank events as jsonl: a `ranking` becomes a session, an `interaction` an event of it.

An interaction that names no ranking, or one that is not there, stands alone. `item` and `user` events describe the
catalogue and the people, and are passed over.
"""

from __future__ import annotations

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

    from clickstream_service.importers.names import Names
    from clickstream_service.importers.source import Line, Source

_QUERY: Final = ("query", "search", "search_query")
"""Fields of a ranking that may hold the text."""


class Metarank:
    """Reads events of Metarank."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def read(self, source: Source) -> Iterator[Item]:
        """Yield what each line says, in order."""
        for line in source.lines():
            try:
                yield self._item(line, values.json_object(line))
            except UNREADABLE as error:
                yield Rejected(line.number, why(error), line.readable)

    def _item(self, line: Line, event: dict[str, Any]) -> Item:
        kind = values.needed(event, "event")
        if kind in {"item", "user", "metadata"}:
            return PassedOver(line.number, "events about items and users")
        if kind == "ranking":
            return FoundSession(line.number, _session(event))
        if kind == "interaction":
            return self._interaction(line, event)
        raise BadLine("event is not one of ranking, interaction, item and user")

    def _interaction(self, line: Line, event: dict[str, Any]) -> FoundInteraction:
        fields = _fields(event)
        read = Interaction(
            interaction_id=values.text(event, "id") or values.id_of(line),
            feature_id=values.needed(event, "item"),
            interaction_types=[self._names.type_of(values.needed(event, "type"))],
            position=values.count(fields, "position"),
            occurred_at=values.timestamp(event, "timestamp", values.MILLISECONDS),
        )
        values.fill(read.metadata, {"session": event.get("session"), "fields": fields})
        alone = Interaction()
        alone.CopyFrom(read)
        alone.user_id = values.text(event, "user")
        ranking = values.text(event, "ranking")
        if not ranking:
            return FoundInteraction(line.number, alone)
        alone.metadata["ranking"] = ranking
        read.session_id = ranking
        return FoundInteraction(line.number, read, alone)


def _session(event: dict[str, Any]) -> Session:
    fields = _fields(event)
    text = next((values.text(fields, name) for name in _QUERY if isinstance(fields.get(name), str)), "")
    session = Session(
        session_id=values.needed(event, "id"),
        user_id=values.text(event, "user"),
        search_query=SearchQuery(text=text),
        created_at=values.timestamp(event, "timestamp", values.MILLISECONDS),
    )
    for item in values.objects(event, "items"):
        score = values.number(item, "relevancy")
        if score is None:
            score = values.number(_fields(item), "relevancy")
        session.search_results.add(object_id=values.needed(item, "id"), score=score)
    values.fill(session.search_meta, {"session": event.get("session"), "fields": fields})
    return session


def _fields(values_of: dict[str, Any]) -> dict[str, Any]:
    """Return the list of named values that Metarank calls fields, by name."""
    return {values.needed(each, "name"): each.get("value") for each in values.objects(values_of, "fields")}
