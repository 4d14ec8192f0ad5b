"""What is sent: sessions of 20 results, and clicks on them, each with a time, a place and how long it lasted."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tideline.clickstream.v1 import event_pb2, session_pb2
from tideline.clickstream.v1 import session_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = 20


def a_session(session_id: str) -> session_pb2.Session:
    at = Timestamp()
    at.FromDatetime(datetime.now(UTC))
    return session_pb2.Session(
        session_id=session_id,
        user_id=f"user-{session_id[:6]}",
        search_query=session_pb2.SearchQuery(text=f"red shoes {session_id[:3]}"),
        search_results=[
            session_pb2.SearchResult(object_id=f"product-{place:05}", rank=place, score=1 - place / 100)
            for place in range(1, RESULTS + 1)
        ],
        created_at=at,
    )


def sessions(count: int) -> list[session_pb2.Session]:
    return [a_session(uuid.uuid4().hex) for _ in range(count)]


def an_event(event_id: str, number: int) -> event_pb2.Event:
    at = Timestamp()
    at.FromDatetime(datetime.now(UTC))
    place = number % RESULTS
    return event_pb2.Event(
        event_id=event_id,
        object_id=f"product-{place + 1:05}",
        event_types=["click"],
        position=place,
        dwell=Duration(seconds=3 + place),
        created_at=at,
    )


def events(count: int) -> list[event_pb2.Event]:
    head = uuid.uuid4().hex[:20]
    return [an_event(f"{head}-{number}", number) for number in range(count)]


def pushes(session_ids: Iterator[str], calls: int, events_each: int) -> list[bytes]:
    """Make requests of `PushEvents`."""
    return [
        pb.PushEventsRequest(session_id=next(session_ids), events=events(events_each)).SerializeToString()
        for _ in range(calls)
    ]


def first(push: bytes, count: int) -> bytes:
    """Return a request of `PushEvents` with only its first events."""
    request = pb.PushEventsRequest.FromString(push)
    del request.events[count:]
    return request.SerializeToString()


def messages(session_ids: Iterator[str], count: int, events_each: int) -> list[bytes]:
    """Make messages of `StreamEvents`."""
    return [
        pb.StreamEventsRequest(
            sequence=number, session_id=next(session_ids), events=events(events_each)
        ).SerializeToString()
        for number in range(count)
    ]


def creations(calls: int, sessions_each: int) -> list[bytes]:
    """Make requests of `BatchCreateSessions`."""
    return [pb.BatchCreateSessionsRequest(sessions=sessions(sessions_each)).SerializeToString() for _ in range(calls)]
