"""Calls of the clickstream service, its failures in our words."""

from __future__ import annotations

import json
import uuid
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration

from improvement_service.domain.feedback import LeasedUser, Settlement
from improvement_service.feedback import convert
from tideline.clickstream.v1 import (
    feedback_service_pb2,
    feedback_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
)
from tideline.errors import DependencyUnavailable, TidelineError
from tideline.rpc import deadline, status
from tideline.rpc.breaker import Breaker
from tideline.rpc.channels import NOTHING
from tideline.rpc.keepalive import keepalive
from tideline.rpc.pseudonyms import is_pseudonym
from tideline.rpc.server import OPTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
    from datetime import timedelta

    from improvement_service.domain.feedback import Lease, Outcome, Session
    from improvement_service.domain.search import RecordedSearch
    from tideline.rpc.channels import Access
    from tideline.rpc.pseudonyms import UserKeys

USERS_A_CALL: Final = 10_000
OUTCOMES_A_CALL: Final = 100_000
RECORDED_WITHIN_S: Final = 2.0
"""A search that is not recorded by then is answered without."""

_FEEDBACK: Final = "tideline.clickstream.v1.FeedbackService"
_SAFE_TO_REPEAT: Final = (
    *((_FEEDBACK, method) for method in ("RenewLease", "SettleFeedback", "ReleaseLease", "RequeueUsers")),
    ("tideline.clickstream.v1.SessionService", "CreateSession"),
)
_SERVICE_CONFIG: Final = {
    "methodConfig": [
        {
            "name": [{"service": service, "method": method} for service, method in _SAFE_TO_REPEAT],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_CHANNEL: Final = (
    *OPTIONS,
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A connection that died silently (a node is gone) is noticed within 40 s, even while a stream is idle.
    *keepalive(30, 10),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)
_FIELDS_OF_SEARCH: Final = {
    "session.session_id": "record_session.session_id",
    "session.search_meta": "record_session.search_meta",
    "session.user_id": "user_id",
    "session.query_vector": "query_vector",
    "session.search_query.text": "text",
    "session.payload_filter": "payload_filter",
}
"""What the fields of a recorded session are called in the search that it is made of."""
_T = TypeVar("_T")
_log = structlog.get_logger(__name__)
_OUTAGES: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class ClickstreamClient:
    """The clickstream service at an address.

    Failures: `DependencyUnavailable` when it does not answer within the patience, else `TidelineError` with the reason
    that it gave.
    """

    def __init__(
        self, address: str, patience: timedelta, access: Access = NOTHING, keys: UserKeys | None = None
    ) -> None:
        """Prepare a connection; it is made by the first call. Calls wait up to `patience` for an answer.

        With `keys`, the service has to name users by their pseudonyms under the newest of them.
        """
        self._keys = keys
        self._warned = False
        self._channel = access.aio_channel(address, _CHANNEL)
        self._feedback = feedback_service_pb2_grpc.FeedbackServiceStub(self._channel)
        self._sessions = session_service_pb2_grpc.SessionServiceStub(self._channel)
        self._patience_s = patience.total_seconds()
        self._record_patience_s = min(self._patience_s, RECORDED_WITHIN_S)
        self._recording = Breaker("the clickstream service")

    async def close(self) -> None:
        await self._channel.close()

    async def lease(
        self, owner: str, duration: timedelta, events_limit: int, began: Callable[[Lease], None]
    ) -> AsyncGenerator[LeasedUser, None]:
        """Lease users, longest waiting first, until no more are pending; `began` hears of each as soon as it is held.

        Those who come pending while this goes on are left to the next call.
        """
        request = feedback_service_pb2.LeaseFeedbackRequest(
            owner=owner, max_users=USERS_A_CALL, duration=_duration(duration), events_limit=events_limit
        )
        leased = USERS_A_CALL
        while leased == USERS_A_CALL:
            leased = 0
            sessions: list[Session] = []
            lease: Lease | None = None
            with _failures():
                # No deadline: the stream lasts as long as the run. Keepalive notices when nobody is there any more.
                call = self._feedback.LeaseFeedback(request)
                try:
                    async for part in call:
                        if lease is None:
                            lease = self._recognised(convert.lease_from_pb(part.lease))
                            began(lease)
                        sessions += map(convert.session_from_pb, part.sessions)
                        if part.last:
                            leased += 1
                            yield LeasedUser(lease, tuple(sessions))
                            sessions, lease = [], None
                except grpc.aio.AioRpcError as error:
                    if status.reason_of(error) != "SERVER_STOPPING":
                        raise
                    # What it leased until then is here and ours; the others are left to the next call.
                    return
                finally:
                    call.cancel()

    def _recognised(self, lease: Lease) -> Lease:
        if self._keys is None:
            if not self._warned and is_pseudonym(lease.user_id):
                self._warned = True
                _log.warning("users come as pseudonyms: without IMPROVEMENT_USER_KEYS_FILE, searches miss their copies")
        elif self._keys.pseudonym(lease.user_id) != lease.user_id:
            raise DependencyUnavailable("the clickstream service names users otherwise: it has another USER_KEYS_FILE")
        return lease

    async def renew(self, leases: Sequence[Lease], duration: timedelta) -> list[Lease]:
        """Hold users for `duration` from now; returns the leases that are lost."""
        lost: list[Lease] = []
        for some in _some(leases):
            request = feedback_service_pb2.RenewLeaseRequest(
                leases=map(convert.lease_to_pb, some), duration=_duration(duration)
            )
            with _failures():
                answer = await self._feedback.RenewLease(request, timeout=self._patience_s)
            lost += map(convert.lease_from_pb, answer.lost)
        return lost

    async def settle(self, lease: Lease, outcomes: Sequence[Outcome]) -> Settlement:
        """Record what became of the sessions of a user, and free the user; raises LEASE_LOST."""
        request = feedback_service_pb2.SettleFeedbackRequest(
            lease=convert.lease_to_pb(lease), outcomes=map(convert.outcome_to_pb, outcomes[:OUTCOMES_A_CALL])
        )
        with _failures():
            answer = await self._feedback.SettleFeedback(request, timeout=self._patience_s, wait_for_ready=True)
        return Settlement(answer.pending_again, answer.parked)

    async def release_all(self, owner: str) -> None:
        """Free all users that a worker holds, those included that it does not know of."""
        with _failures():
            request = feedback_service_pb2.ReleaseLeaseRequest(owner=owner)
            await self._feedback.ReleaseLease(request, timeout=self._patience_s)

    async def release(self, leases: Sequence[Lease]) -> None:
        """Free users as if they had not been leased; those that are lost are passed over."""
        for some in _some(leases):
            request = feedback_service_pb2.ReleaseLeaseRequest(leases=map(convert.lease_to_pb, some))
            with _failures():
                await self._feedback.ReleaseLease(request, timeout=self._patience_s)

    async def requeue_users(self, user_ids: Sequence[str]) -> int:
        """Queue users to be learned anew, any number of them; returns how many of them are known."""
        known = 0
        for some in _some(user_ids):
            request = feedback_service_pb2.RequeueUsersRequest(user_ids=some)
            with _failures():
                answer = await self._feedback.RequeueUsers(request, timeout=self._patience_s, wait_for_ready=True)
            known += answer.requeued
        return known

    async def record(self, search: RecordedSearch) -> str:
        """Record a search as a session and return its id."""
        # Assigned here, or a repeated call would record it twice.
        session = convert.recorded_to_pb(search, search.recording.session_id or uuid.uuid4().hex)
        request = session_service_pb2.CreateSessionRequest(session=session)
        try:
            # A search waits for this: where there is nobody to record it, that is known at once after the first few.
            with self._recording.watching(), _failures():
                answer = await self._sessions.CreateSession(request, timeout=deadline.at_most(self._record_patience_s))
        except TidelineError as refused:
            if refused.field:
                refused.field = _FIELDS_OF_SEARCH.get(refused.field, "record_session")
            raise
        return answer.session.session_id


@asynccontextmanager
async def connected(
    address: str, patience: timedelta, access: Access = NOTHING, keys: UserKeys | None = None
) -> AsyncIterator[ClickstreamClient]:
    """Connect to the clickstream service for as long as the block lasts."""
    client = ClickstreamClient(address, patience, access, keys)
    try:
        yield client
    finally:
        await client.close()


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        reason = status.reason_of(error)
        if not reason or error.code() in _OUTAGES:
            raise DependencyUnavailable("the clickstream service does not answer") from error
        field = status.field_of(error)
        failure = TidelineError((error.details() or reason).removeprefix(f"{field}: "), field=field)
        failure.reason = reason
        raise failure from error


def _duration(time: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(time)
    return message


def _some(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (items[start : start + USERS_A_CALL] for start in range(0, len(items), USERS_A_CALL))
