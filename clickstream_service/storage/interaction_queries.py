"""Which interactions, as MongoDB queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from clickstream_service.domain.interaction import AllOf, AnyOf, NoneOf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clickstream_service.domain.interaction import Choice, InteractionFilter, Match, Place

    Query = dict[str, Any]

NO_NOISE: Final = {"noise": {"$exists": False}}


def query(choice: Choice, after: Place | None, *, newest_first: bool) -> Query:
    """Return a query for the chosen interactions behind a place in time; irrelevant sessions are not looked at."""
    parts = [_query(choice.filter)]
    if not choice.include_excluded:
        parts.append(NO_NOISE)
    if after is not None:
        parts.append(_behind(after, newest_first=newest_first))
    parts = [part for part in parts if part]
    return {"$and": parts} if len(parts) > 1 else parts[0] if parts else {}


def _query(which: InteractionFilter) -> Query:
    if isinstance(which, AllOf):
        return {"$and": [_query(each) for each in which.filters]}
    if isinstance(which, AnyOf):
        return {"$or": [_query(each) for each in which.filters]}
    if isinstance(which, NoneOf):
        return {"$nor": [_query(which.filter)]}
    return _match(which)


def _match(match: Match) -> Query:
    named = {
        "object_id": match.object_ids,
        "user_id": match.user_ids,
        "session_id": match.session_ids,
        "query_text": match.query_texts,
        "event_types": match.event_types,
    }
    found: Query = {field: _one_of(values) for field, values in named.items() if values}
    if match.created_from is not None:
        found.setdefault("created_at", {})["$gte"] = match.created_from
    if match.created_before is not None:
        found.setdefault("created_at", {})["$lt"] = match.created_before
    return found


def _one_of(values: Sequence[str]) -> Any:
    return values[0] if len(values) == 1 else {"$in": list(values)}


def _behind(place: Place, *, newest_first: bool) -> Query:
    key = {"s": place.session_id, "e": place.event_id}
    side, passed = ("$lte", "$gte") if newest_first else ("$gte", "$lte")
    return {"created_at": {side: place.created_at}, "$nor": [{"created_at": place.created_at, "_id": {passed: key}}]}
