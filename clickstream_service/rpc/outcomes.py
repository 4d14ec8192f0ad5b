"""What became of each of many sessions or events, in the words of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clickstream_service.domain.errors import EventConflict, SessionConflict
from clickstream_service.domain.event import Event, Stored
from clickstream_service.domain.session import Recorded
from tideline.clickstream.v1 import event_pb2
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.common.v1.error_reason_pb2 import ErrorReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tideline.clickstream.v1 import interaction_pb2, session_pb2
    from tideline.errors import InvalidField, TidelineError


def of_sessions(
    messages: Sequence[session_pb2.Session], outcomes: Sequence[Recorded | TidelineError]
) -> list[pb.SessionOutcome]:
    """Say what became of each of these sessions."""
    return [_of_session(message.session_id, outcome) for message, outcome in zip(messages, outcomes, strict=True)]


def of_events(
    messages: Sequence[event_pb2.Event], outcomes: Sequence[Stored | TidelineError]
) -> list[event_pb2.EventOutcome]:
    """Say what became of each of these events."""
    return [_of_event(message.event_id, outcome) for message, outcome in zip(messages, outcomes, strict=True)]


def of_interactions(
    messages: Sequence[interaction_pb2.Interaction],
    interactions: Sequence[Event | InvalidField],
    outcomes: Sequence[Stored | TidelineError],
) -> list[event_pb2.EventOutcome]:
    """Say what became of each of these interactions, by the id that it got if it had none."""
    return [
        _of_event(given.event_id if isinstance(given, Event) else message.interaction_id, outcome)
        for message, given, outcome in zip(messages, interactions, outcomes, strict=True)
    ]


def _of_session(session_id: str, outcome: Recorded | TidelineError) -> pb.SessionOutcome:
    if isinstance(outcome, Recorded):
        return pb.SessionOutcome(
            session_id=outcome.session_id,
            status=pb.SESSION_STATUS_CREATED if outcome.created else pb.SESSION_STATUS_DUPLICATE,
            batch_id=outcome.batch_id,
            session_number=outcome.session_number,
        )
    conflict = isinstance(outcome, SessionConflict)
    return pb.SessionOutcome(
        session_id=session_id,
        status=pb.SESSION_STATUS_CONFLICT if conflict else pb.SESSION_STATUS_REJECTED,
        reason=_reason(outcome),
        field=outcome.field,
        message=str(outcome),
    )


def _of_event(event_id: str, outcome: Stored | TidelineError) -> event_pb2.EventOutcome:
    if isinstance(outcome, Stored):
        if not outcome.flags and not outcome.duplicate:
            return event_pb2.EventOutcome(event_id=event_id, status=event_pb2.EVENT_STATUS_ACCEPTED)
        return event_pb2.EventOutcome(
            event_id=event_id,
            status=event_pb2.EVENT_STATUS_DUPLICATE if outcome.duplicate else event_pb2.EVENT_STATUS_ACCEPTED,
            flags=map(event_pb2.EventFlag.ValueType, outcome.flags),
        )
    conflict = isinstance(outcome, EventConflict)
    return event_pb2.EventOutcome(
        event_id=event_id,
        status=event_pb2.EVENT_STATUS_CONFLICT if conflict else event_pb2.EVENT_STATUS_REJECTED,
        reason=_reason(outcome),
        field=outcome.field,
        message=str(outcome),
    )


def _reason(error: TidelineError) -> ErrorReason.ValueType:
    return ErrorReason.Value(f"ERROR_REASON_{error.reason}")
