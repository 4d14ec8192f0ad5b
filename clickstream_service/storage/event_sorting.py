"""What becomes of events on their way in: decided by what they come with, and by what is known of their sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clickstream_service.domain.errors import EventConflict, SessionNotFound, UserBeingErased
from clickstream_service.domain.event import Event, EventFlag, Stored
from clickstream_service.storage import documents
from tideline.errors import InvalidField

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    Document = dict[str, Any]
    Key = tuple[str, str]
    Fault = SessionNotFound | InvalidField | UserBeingErased
    Outcome = Stored | EventConflict | Fault

_STORED: Final = Stored(duplicate=False)
_OVERTOOK: Final = Stored(duplicate=False, flags=(EventFlag.SESSION_MISSING,))


class Arrival(NamedTuple):
    """An event on its way in, and whether it may come before its session."""

    event: Event
    allow_missing: bool


@dataclass(frozen=True, slots=True)
class Search:
    """What its events take from a session."""

    ranks: Mapping[str, int]
    user_id: str
    query_text: str
    created_at: datetime
    trace: str


def sorted_out(
    arrivals: Sequence[Arrival], searches: Mapping[str, Search], refused: frozenset[str], now: datetime
) -> tuple[list[Outcome], dict[Key, Document]]:
    """Return what becomes of each event if none of them is there yet, and what there is to insert then."""
    outcomes: list[Outcome] = []
    first: dict[Key, Document] = {}
    for event, allow_missing in arrivals:
        session_id = event.session_id
        search = searches.get(session_id)
        if refused and user_of(event, searches) in refused:
            outcomes.append(being_erased())
            continue
        if search is None:
            if session_id and not allow_missing:
                outcomes.append(SessionNotFound("no session has this id", field="session_id"))
                continue
        elif (event.user_id or event.query_text) and (fault := _contradiction(event, search)) is not None:
            outcomes.append(fault)
            continue
        key = session_id, event.event_id
        if (before := first.get(key)) is not None:
            outcomes.append(repeated(event, before))
            continue
        if search is not None:
            stored, user_id, query_text = _stored(event, search), search.user_id, search.query_text
        else:
            stored = _OVERTOOK if session_id else _STORED
            user_id, query_text = event.user_id, event.query_text
        outcomes.append(stored)
        first[key] = documents.from_event(event, stored.flags, now, user_id, query_text)
    return outcomes, first


def key_of(document: Document) -> Key:
    """Return the session and the id of a stored event."""
    return document["_id"]["s"], document["_id"]["e"]


def _content(event: Event) -> tuple[bytes, str]:
    """Return what tells one use of an id from another; in a session, the user is the session's."""
    return event.fingerprint, "" if event.session_id else event.user_id


def _stored_content(document: Document) -> tuple[bytes, str]:
    return document["fingerprint"], "" if document["_id"]["s"] else document["user_id"]


def user_of(event: Event, searches: Mapping[str, Search]) -> str:
    """Return whose event it is: the user of its session, where that is there."""
    search = searches.get(event.session_id)
    return event.user_id if search is None else search.user_id


def being_erased() -> UserBeingErased:
    """Return what a user who is being erased is refused with."""
    return UserBeingErased("the user is being erased", field="user_id")


def _contradiction(event: Event, search: Search) -> InvalidField | None:
    if event.user_id and event.user_id != search.user_id:
        return InvalidField("is not the user of the session", field="user_id")
    if event.query_text and event.query_text != search.query_text:
        return InvalidField("is not the text that the session searched for", field="query_text")
    return None


def _stored(event: Event, search: Search) -> Stored:
    rank = search.ranks.get(event.object_id)
    shown = not event.object_id if rank is None else event.position is None or event.position + 1 == rank
    if shown and event.created_at >= search.created_at:
        return _STORED
    odd = {
        EventFlag.OBJECT_NOT_SHOWN: event.object_id and rank is None,
        EventFlag.OUT_OF_SEQUENCE: event.created_at < search.created_at,
        EventFlag.POSITION_MISMATCH: rank is not None and event.position is not None and event.position + 1 != rank,
    }
    return Stored(duplicate=False, flags=tuple(flag for flag, is_odd in odd.items() if is_odd))


def repeated(event: Event, known: Document) -> Stored | EventConflict:
    """Return what becomes of an event whose id is `known`."""
    if _content(event) != _stored_content(known):
        return EventConflict("this id was used for other content", field="event_id")
    return Stored(duplicate=True, flags=tuple(map(EventFlag, known.get("flags", ()))))
