"""Feedback and recorded searches between messages of the clickstream service and the domain."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from improvement_service.domain.feedback import Event, Lease, Outcome, Session, State
from tideline.clickstream.v1 import event_pb2, feedback_service_pb2, session_pb2
from tideline.errors import InvalidField
from tideline.rpc.structs import struct_from_pb

if TYPE_CHECKING:
    from improvement_service.domain.search import RecordedSearch

_STATES: Final = {
    State.DONE: feedback_service_pb2.FEEDBACK_STATE_DONE,
    State.SKIPPED: feedback_service_pb2.FEEDBACK_STATE_SKIPPED,
    State.FAILED: feedback_service_pb2.FEEDBACK_STATE_FAILED,
}
_WAITING: Final = (feedback_service_pb2.FEEDBACK_STATE_PENDING, feedback_service_pb2.FEEDBACK_STATE_FAILED)
_REASON_BYTES: Final = 64
_DETAIL_BYTES: Final = 4096


def lease_from_pb(lease: feedback_service_pb2.FeedbackLease) -> Lease:
    return Lease(lease.user_id, lease.fence)


def lease_to_pb(lease: Lease) -> feedback_service_pb2.FeedbackLease:
    return feedback_service_pb2.FeedbackLease(user_id=lease.user_id, fence=lease.fence)


def session_from_pb(message: feedback_service_pb2.FeedbackSession) -> Session:
    session = message.session.session
    return Session(
        session_id=session.session_id,
        collection=session.collection,
        created_at=session.created_at.ToDatetime(UTC),
        text=session.search_query.text,
        query_vector=np.array(session.query_vector, dtype=np.float32) if session.query_vector else None,
        results=tuple((result.object_id, result.rank) for result in session.search_results),
        events=tuple(map(_event_from_pb, message.session.events)),
        search_meta=_meta(session),
        irrelevant=session.HasField("irrelevance"),
        examination=tuple(message.examination),
        waiting=message.state in _WAITING,
        trace=message.traceparent,
    )


def outcome_to_pb(outcome: Outcome) -> feedback_service_pb2.FeedbackOutcome:
    return feedback_service_pb2.FeedbackOutcome(
        session_id=outcome.session_id,
        state=_STATES[outcome.state],
        # A session filter may be installed whose reasons are too long.
        reason=_cut(outcome.reason, _REASON_BYTES),
        detail=_cut(outcome.detail, _DETAIL_BYTES),
    )


def recorded_to_pb(recorded: RecordedSearch, session_id: str) -> session_pb2.Session:
    """Return the session that a search is recorded as, its results ranked as they were shown."""
    query, recording = recorded.query, recorded.recording
    message = session_pb2.Session(
        session_id=session_id,
        user_id=query.user_id,
        query_vector=recorded.vector.tolist(),
        search_results=[
            session_pb2.SearchResult(object_id=result.object_id, rank=rank, score=result.score)
            for rank, result in enumerate(recorded.results, start=recorded.first_rank)
        ],
        collection=query.collection,
    )
    if query.text:
        message.search_query.text = query.text
    if recording.search_meta is not None:
        message.search_meta.update(recording.search_meta)
    if query.payload_filter:
        message.payload_filter.update(query.payload_filter)
    return message


def _meta(session: session_pb2.Session) -> dict[str, Any]:
    try:
        return struct_from_pb(session.search_meta, "search_meta")
    except InvalidField:
        # The clickstream service takes no such thing; if one comes all the same, it must not be in the way of others.
        return {}


def _event_from_pb(event: event_pb2.Event) -> Event:
    return Event(
        object_id=event.object_id,
        event_types=tuple(event.event_types),
        weight=event.weight,
        created_at=event.created_at.ToDatetime(UTC),
        position=event.position if event.HasField("position") else None,
        dwell=event.dwell.ToTimedelta() if event.HasField("dwell") else None,
    )


def _cut(text: str, most_bytes: int) -> str:
    return text.encode()[:most_bytes].decode(errors="ignore")
