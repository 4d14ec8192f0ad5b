"""Feedback to and from messages of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clickstream_service.domain.feedback import FeedbackOutcome, FeedbackState
from clickstream_service.rpc.convert_batches import fill_session_with_events
from tideline.clickstream.v1 import feedback_service_pb2 as pb
from tideline.rpc.structs import datetime_to_pb, timedelta_from_pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from clickstream_service.domain.feedback import FeedbackCounts, FeedbackSession, Lease, PendingUser, Renewal
    from clickstream_service.domain.strength import Strengths

_STATES: Final = {
    FeedbackState.PENDING: pb.FEEDBACK_STATE_PENDING,
    FeedbackState.DONE: pb.FEEDBACK_STATE_DONE,
    FeedbackState.SKIPPED: pb.FEEDBACK_STATE_SKIPPED,
    FeedbackState.FAILED: pb.FEEDBACK_STATE_FAILED,
    FeedbackState.PARKED: pb.FEEDBACK_STATE_PARKED,
}
"""Sessions that became irrelevant do not show."""
_FROM_PB: Final = {number: state for state, number in _STATES.items()}


def duration_from_pb(request: pb.LeaseFeedbackRequest | pb.RenewLeaseRequest) -> timedelta | None:
    """Return for how long a lease is wanted; None when that is left to the service."""
    return timedelta_from_pb(request.duration) if request.HasField("duration") else None


def leases_from_pb(leases: Iterable[pb.FeedbackLease]) -> list[tuple[str, int]]:
    """Return the user and the fence of each lease."""
    return [(lease.user_id, lease.fence) for lease in leases]


def outcome_from_pb(outcome: pb.FeedbackOutcome) -> FeedbackOutcome:
    return FeedbackOutcome(outcome.session_id, _FROM_PB[outcome.state], outcome.reason, outcome.detail)


def lease_to_pb(lease: Lease) -> pb.FeedbackLease:
    message = pb.FeedbackLease(user_id=lease.user_id, fence=lease.fence, attempts=lease.attempts)
    datetime_to_pb(lease.expires_at, message.expires_at)
    return message


def session_to_pb(session: FeedbackSession, strengths: Strengths, examination: Sequence[float]) -> pb.FeedbackSession:
    message = pb.FeedbackSession(
        state=_STATES[session.state],
        failures=session.failures,
        examination=examination,
        traceparent=session.content.session.trace,
    )
    fill_session_with_events(message.session, session.content, strengths)
    return message


def renewal_to_pb(renewal: Renewal) -> pb.RenewLeaseResponse:
    lost = [pb.FeedbackLease(user_id=user_id, fence=fence) for user_id, fence in renewal.lost]
    message = pb.RenewLeaseResponse(lost=lost)
    if renewal.expires_at is not None:
        datetime_to_pb(renewal.expires_at, message.expires_at)
    return message


def pending_to_pb(user: PendingUser) -> pb.PendingUser:
    message = pb.PendingUser(
        user_id=user.user_id, pending_sessions=user.pending_sessions, owner=user.owner, attempts=user.attempts
    )
    datetime_to_pb(user.due_at, message.due_at)
    if user.lease_expires_at is not None:
        datetime_to_pb(user.lease_expires_at, message.lease_expires_at)
    return message


def counts_to_pb(counts: FeedbackCounts) -> pb.GetFeedbackCountsResponse:
    message = pb.GetFeedbackCountsResponse(
        pending_users=counts.pending_users,
        leased_users=counts.leased_users,
        sessions=[
            pb.FeedbackStateCount(state=number, count=counts.sessions[state]) for state, number in _STATES.items()
        ],
    )
    if counts.oldest_due_at is not None:
        datetime_to_pb(counts.oldest_due_at, message.oldest_due_at)
    return message
