"""Batches as messages of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clickstream_service.domain.batch import BatchState
from clickstream_service.rpc import convert
from tideline.clickstream.v1 import batch_service_pb2 as pb
from tideline.rpc.structs import datetime_to_pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

    from clickstream_service.domain.batch import Batch
    from clickstream_service.domain.session import SessionWithEvents
    from clickstream_service.domain.strength import Strengths


def state_from_pb(state: pb.BatchState.ValueType) -> BatchState | None:
    """Return a state to look for; None for any."""
    return BatchState(state) if state else None


def batch_to_pb(batch: Batch) -> pb.Batch:
    message = pb.Batch(
        batch_id=batch.batch_id,
        state=pb.BatchState.ValueType(batch.state),
        session_count=batch.session_count,
        release_id=batch.release_id,
    )
    datetime_to_pb(batch.opened_at, message.opened_at)
    if batch.released_at is not None:
        datetime_to_pb(batch.released_at, message.released_at)
    return message


def fill_sessions(
    messages: RepeatedCompositeFieldContainer[pb.SessionWithEvents],
    contents: Iterable[SessionWithEvents],
    strengths: Strengths,
) -> None:
    """Add sessions with their events to a message, where they are to go."""
    for content in contents:
        fill_session_with_events(messages.add(), content, strengths)


def fill_session_with_events(message: pb.SessionWithEvents, content: SessionWithEvents, strengths: Strengths) -> None:
    """Say in an empty message what a session and its events are."""
    convert.fill_session(message.session, content.session)
    for event in content.events:
        convert.fill_event(message.events.add(), event, strengths)
    message.events_truncated = content.truncated
