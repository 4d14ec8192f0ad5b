"""Messages of the contract to and from what the service works with."""

from __future__ import annotations

import sys
from array import array
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from clickstream_service.domain.event import Event
from clickstream_service.domain.session import SearchResult, Session, SessionFilter, SortBy, SortOrder, Struct
from clickstream_service.rpc.checks import plainly_valid_event, plainly_valid_session
from tideline.clickstream.v1 import event_pb2, session_pb2
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.errors import InvalidField
from tideline.rpc import tracing
from tideline.rpc.structs import (
    datetime_from_pb,
    datetime_to_pb,
    struct_from_pb,
    struct_to_pb,
    timedelta_from_pb,
    timedelta_to_pb,
)
from tideline.rpc.validation import first_violation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from clickstream_service.domain.strength import Strengths

_ASSIGNED_TO_SESSION: Final = ("batch_id", "session_number", "irrelevance")
_ASSIGNED_TO_EVENT: Final = ("flags", "weight")
_tuple: Final = tuple.__new__


def checked_session_from_pb(message: session_pb2.Session, now: datetime) -> Session | InvalidField:
    """Return the session, or the first rule of the contract that it breaks."""
    # What is rare, or would be lost before it could be looked at, is held against the rules first.
    rare = message.sort_by or message.batch_id or message.HasField("irrelevance")
    if rare and (violation := first_violation(message)) is not None:
        return violation
    session = session_from_pb(message, now)
    if isinstance(session, Session) and plainly_valid_session(session):
        return session
    return first_violation(message) or session


def session_from_pb(message: session_pb2.Session, now: datetime) -> Session | InvalidField:
    """Return a session that came in `now`; `message` loses what only the server may assign."""
    # The user is compared by itself: under another key it has another name, and no hash is to give it away.
    user_id = message.user_id
    message.ClearField("user_id")
    content = _content(message, _ASSIGNED_TO_SESSION)
    message.user_id = user_id
    try:
        return _session_from_pb(message, now, content)
    except InvalidField as invalid:
        return invalid


def _session_from_pb(message: session_pb2.Session, now: datetime, content: bytes) -> Session:
    return Session(
        session_id=message.session_id,
        user_id=message.user_id,
        query=_query_from_pb(message.search_query),
        query_vector=_vector_from_pb(message.query_vector) if message.query_vector else b"",
        results=tuple(
            [
                # Like `SearchResult(...)`, which takes twice as long; only a score of 0 may be none.
                _tuple(
                    SearchResult,
                    (
                        result.object_id,
                        result.rank or place,
                        result.score or (result.score if result.HasField("score") else None),
                        struct_from_pb(result.meta, f"search_results[{place - 1}].meta")
                        if result.HasField("meta")
                        else None,
                    ),
                )
                for place, result in enumerate(message.search_results, 1)
            ]
        ),
        search_meta=_optional_struct(message, "search_meta"),
        payload_filter=_optional_struct(message, "payload_filter"),
        sort_by=tuple([SortBy(by.field, SortOrder(by.order)) for by in message.sort_by]),
        created_at=_created_at(message, now),
        collection=message.collection,
        fingerprint=sha256(content).digest(),
        nbytes=len(content) + len(message.user_id.encode()),
        trace=tracing.traceparent(),
    )


def session_to_pb(session: Session) -> session_pb2.Session:
    message = session_pb2.Session()
    fill_session(message, session)
    return message


def fill_session(message: session_pb2.Session, session: Session) -> None:
    """Say in an empty message what a session is; filled where it is to go, a message is not copied there."""
    message.session_id = session.session_id
    message.user_id = session.user_id
    message.collection = session.collection
    message.batch_id = session.batch_id
    message.session_number = session.session_number
    if isinstance(session.query, str):
        message.search_query.text = session.query
    elif session.query is not None:
        struct_to_pb(session.query, message.search_query.structured)
    if session.query_vector:
        message.query_vector.extend(_vector_to_pb(session.query_vector))
    _fill_results(message, session.results)
    if session.search_meta is not None:
        struct_to_pb(session.search_meta, message.search_meta)
    if session.payload_filter is not None:
        struct_to_pb(session.payload_filter, message.payload_filter)
    for by in session.sort_by:
        message.sort_by.add(field=by.field, order=session_pb2.SortOrder.ValueType(by.order))
    datetime_to_pb(session.created_at, message.created_at)
    if session.irrelevance is not None:
        message.irrelevance.reason = session.irrelevance.reason
        datetime_to_pb(session.irrelevance.marked_at, message.irrelevance.marked_at)


def _fill_results(message: session_pb2.Session, results: Iterable[SearchResult]) -> None:
    # Field by field, which takes half the time of `add(object_id=...)`.
    add_result = message.search_results.add
    for object_id, rank, score, meta in results:
        shown = add_result()
        shown.object_id = object_id
        shown.rank = rank
        if score is not None:
            shown.score = score
        if meta is not None:
            struct_to_pb(meta, shown.meta)


def filter_from_pb(message: pb.ListSessionsRequest) -> SessionFilter:
    """Return which sessions are asked for; raises `InvalidField`."""
    return SessionFilter(
        user_id=message.user_id if message.HasField("user_id") else None,
        created_from=datetime_from_pb(message.created_from, "created_from")
        if message.HasField("created_from")
        else None,
        created_before=datetime_from_pb(message.created_before, "created_before")
        if message.HasField("created_before")
        else None,
        irrelevant=message.irrelevant if message.HasField("irrelevant") else None,
    )


def checked_events_from_pb(
    session_id: str, messages: Sequence[event_pb2.Event], now: datetime
) -> list[Event | InvalidField]:
    """Return events that came in `now`, each of them or the first rule of the contract that it breaks."""
    return [
        (None if plainly_valid_event(message) else first_violation(message)) or event_from_pb(session_id, message, now)
        for message in messages
    ]


def event_to_pb(event: Event, strengths: Strengths) -> event_pb2.Event:
    message = event_pb2.Event()
    fill_event(message, event, strengths)
    return message


def fill_event(message: event_pb2.Event, event: Event, strengths: Strengths) -> None:
    """Say in an empty message what an event is."""
    message.event_id = event.event_id
    message.object_id = event.object_id
    message.event_types.extend(event.event_types)
    if event.position is not None:
        message.position = event.position
    if event.flags:
        message.flags.extend(map(event_pb2.EventFlag.ValueType, event.flags))
    message.weight = 0.0 if event.noise else strengths.weight(event.event_types, event.dwell)
    if event.dwell is not None:
        timedelta_to_pb(event.dwell, message.dwell)
    if event.meta is not None:
        struct_to_pb(event.meta, message.meta)
    datetime_to_pb(event.created_at, message.created_at)


def event_from_pb(session_id: str, message: event_pb2.Event, now: datetime) -> Event | InvalidField:
    """Return an event that came in `now`; `message` loses what only the server may assign."""
    content = _content(message, _ASSIGNED_TO_EVENT)
    present = message.HasField
    try:
        meta = struct_from_pb(message.meta, "meta") if present("meta") else None
        created_at = datetime_from_pb(message.created_at, "created_at") if present("created_at") else now
    except InvalidField as invalid:
        return invalid
    # By place, which takes half the time.
    return Event(
        session_id,
        message.event_id,
        message.object_id,
        tuple(message.event_types),
        message.position if present("position") else None,
        timedelta_from_pb(message.dwell) if present("dwell") else None,
        meta,
        created_at,
        sha256(content).digest(),
        len(content),
    )


def _content(message: session_pb2.Session | event_pb2.Event, assigned: Sequence[str]) -> bytes:
    """Return what the client gave, as bytes that are alike when the content is.

    Absent fields leave no trace in them, so that they stay the same when the contract grows, and what the server fills
    in (an id, the time) makes no difference when a client sends it again.
    """
    for name in assigned:
        message.ClearField(name)  # type: ignore[arg-type]
    message.DiscardUnknownFields()
    return message.SerializeToString(deterministic=True)


def _created_at(message: session_pb2.Session | event_pb2.Event, now: datetime) -> datetime:
    return datetime_from_pb(message.created_at, "created_at") if message.HasField("created_at") else now


def _optional_struct(message: session_pb2.Session | event_pb2.Event, name: str) -> Struct | None:
    return struct_from_pb(getattr(message, name), name) if message.HasField(name) else None  # type: ignore[arg-type]


def _query_from_pb(query: session_pb2.SearchQuery) -> str | Struct | None:
    kind = query.WhichOneof("query")
    if kind == "structured":
        return struct_from_pb(query.structured, "search_query.structured")
    return query.text if kind == "text" else None


def _vector_from_pb(vector: Sequence[float]) -> bytes:
    return _little_endian(array("f", vector)).tobytes()


def _vector_to_pb(vector: bytes) -> array[float]:
    return _little_endian(array("f", vector))


def _little_endian(numbers: array[float]) -> array[float]:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
