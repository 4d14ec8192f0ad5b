"""`FeedbackService`: unpack, one call, pack."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from clickstream_service.rpc import convert_feedback as convert
from clickstream_service.rpc import cursors
from clickstream_service.rpc.chunks import chunks
from tideline.clickstream.v1 import feedback_service_pb2 as pb
from tideline.clickstream.v1.feedback_service_pb2_grpc import FeedbackServiceServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import grpc

    from clickstream_service.domain.feedback import FeedbackSession
    from clickstream_service.feedback import Feedback
    from clickstream_service.propensities import PropensityVersions
    from clickstream_service.strengths import StrengthVersions

    Context = grpc.aio.ServicerContext[Any, Any]

USERS: Final = 100
EVENTS: Final = 10_000


class FeedbackServicer(FeedbackServiceServicer):
    """Answers calls of `FeedbackService`."""

    def __init__(self, feedback: Feedback, strengths: StrengthVersions, propensities: PropensityVersions) -> None:
        self._feedback = feedback
        self._propensities = propensities
        self._strengths = strengths

    async def LeaseFeedback(
        self, request: pb.LeaseFeedbackRequest, context: Context
    ) -> AsyncIterator[pb.LeaseFeedbackResponse]:
        leased = self._feedback.lease(
            request.owner,
            request.max_users or USERS,
            convert.duration_from_pb(request),
            request.events_limit or EVENTS,
        )
        async with aclosing(leased) as leases:
            async for lease, sessions in leases:
                strengths = await self._strengths.current()
                async for chunk, last in chunks(sessions, lambda session: session.content.nbytes):
                    yield pb.LeaseFeedbackResponse(
                        lease=convert.lease_to_pb(lease),
                        sessions=[
                            convert.session_to_pb(session, strengths, await self._examination(session))
                            for session in chunk
                        ],
                        last=last,
                    )

    async def _examination(self, session: FeedbackSession) -> Sequence[float]:
        """Return how likely each rank was looked at; nothing when there is no estimate."""
        found = await self._propensities.fitting(*session.content.session.place)
        return () if found is None else [each.examination for each in found.ranks]

    async def RenewLease(self, request: pb.RenewLeaseRequest, context: Context) -> pb.RenewLeaseResponse:
        renewal = await self._feedback.renew(convert.leases_from_pb(request.leases), convert.duration_from_pb(request))
        return convert.renewal_to_pb(renewal)

    async def SettleFeedback(self, request: pb.SettleFeedbackRequest, context: Context) -> pb.SettleFeedbackResponse:
        settlement = await self._feedback.settle(
            request.lease.user_id, request.lease.fence, [convert.outcome_from_pb(each) for each in request.outcomes]
        )
        return pb.SettleFeedbackResponse(pending_again=settlement.pending_again, parked=settlement.parked)

    async def ReleaseLease(self, request: pb.ReleaseLeaseRequest, context: Context) -> pb.ReleaseLeaseResponse:
        released = await self._feedback.release(convert.leases_from_pb(request.leases), request.owner)
        return pb.ReleaseLeaseResponse(released=released)

    async def RequeueUsers(self, request: pb.RequeueUsersRequest, context: Context) -> pb.RequeueUsersResponse:
        requeued = await self._feedback.requeue(None if request.everybody else request.user_ids)
        return pb.RequeueUsersResponse(requeued=requeued)

    async def ListPending(self, request: pb.ListPendingRequest, context: Context) -> pb.ListPendingResponse:
        users, more = await self._feedback.pending(cursors.after(request), request.page_size or USERS)
        return pb.ListPendingResponse(
            users=map(convert.pending_to_pb, users),
            next_page_token=cursors.token(request, users[-1].due_at, users[-1].user_id) if more else "",
        )

    async def GetFeedbackCounts(
        self, request: pb.GetFeedbackCountsRequest, context: Context
    ) -> pb.GetFeedbackCountsResponse:
        return convert.counts_to_pb(await self._feedback.counts())
