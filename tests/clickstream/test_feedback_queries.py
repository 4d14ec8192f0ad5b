"""No call about batches or feedback walks through a collection, however much there is."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from clickstream_service.storage.hydration import FEW_EVENTS
from tests.clickstream.samples import an_event
from tests.clickstream.test_feedback_workers import backlog
from tests.clickstream.worker import FAILED, lease_all, mark_irrelevant, outcomes, record, submit
from tideline.clickstream.v1 import batch_service_pb2 as batch_pb
from tideline.clickstream.v1 import feedback_service_pb2 as pb
from tideline.clickstream.v1 import session_service_pb2 as session_pb

if TYPE_CHECKING:
    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import CaughtUp, Service

QUIET = timedelta(minutes=30)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    often = {"submit_after_quiet": QUIET, "submit_every": timedelta(milliseconds=1), "feedback_max_failures": 1}
    return settings.model_copy(update=often)


@pytest.mark.usefixtures("profiled")
async def test_no_call_walks_through_a_collection_or_sorts_what_it_finds(service: Service) -> None:
    for number in range(3):
        await record(service, f"s{number}", events=3)
        await submit(service, f"s{number}")
    await mark_irrelevant(service, "s2")
    batches, feedback = service.batches, service.feedback
    batch_id = (await batches.GetBatch(batch_pb.GetBatchRequest())).batch.batch_id
    await batches.GetBatch(batch_pb.GetBatchRequest(batch_id=batch_id))
    for state in batch_pb.BatchState.values():
        token = ""
        for _ in range(2):
            request = batch_pb.ListBatchesRequest(state=state, page_size=1, page_token=token)
            token = (await batches.ListBatches(request)).next_page_token
    await batches.GetBatchSessions(batch_pb.GetBatchSessionsRequest(batch_id=batch_id, after_number=1, events_limit=2))
    [_ async for _ in batches.ExportBatchSessions(batch_pb.ExportBatchSessionsRequest(batch_id=batch_id))]
    for _ in range(2):
        await batches.ReleaseBatch(batch_pb.ReleaseBatchRequest(release_id="r1"))

    user = (await lease_all(feedback))["ann"]
    await feedback.RenewLease(pb.RenewLeaseRequest(leases=[user.lease]))
    await feedback.GetFeedbackCounts(pb.GetFeedbackCountsRequest())
    results = [*outcomes(["s0"]), *outcomes(["s1"], FAILED)]
    await feedback.SettleFeedback(pb.SettleFeedbackRequest(lease=user.lease, outcomes=results))
    await feedback.RequeueUsers(pb.RequeueUsersRequest(user_ids=["ann", "bert"]))
    user = (await lease_all(feedback))["ann"]
    await feedback.ReleaseLease(pb.ReleaseLeaseRequest(leases=[user.lease]))
    token = ""
    for user_id in ("bert", "carl"):
        await record(service, f"of {user_id}", user_id)
        await submit(service, f"of {user_id}")
        request = pb.ListPendingRequest(page_size=1, page_token=token)
        token = (await feedback.ListPending(request)).next_page_token


async def test_what_a_call_looks_at_does_not_grow_with_the_backlog(
    service: Service, database: Database[dict[str, Any]], caught_up: CaughtUp
) -> None:
    await backlog(service)
    many = [an_event(f"e{number}") for number in range(1_000)]
    await service.sessions.PushEvents(session_pb.PushEventsRequest(session_id="0/0", events=many))
    # What follows in the background looks at as much as there is; here, it is over.
    await caught_up()
    database.command("profile", 2)
    batch_id = (await service.batches.GetBatch(batch_pb.GetBatchRequest())).batch.batch_id
    await service.batches.GetBatchSessions(
        batch_pb.GetBatchSessionsRequest(batch_id=batch_id, limit=5, events_limit=10)
    )
    users = await lease_all(service.feedback, max_users=5)
    leases = [user.lease for user in users.values()]
    await service.feedback.RenewLease(pb.RenewLeaseRequest(leases=leases))
    for user in users.values():
        await service.feedback.SettleFeedback(pb.SettleFeedbackRequest(lease=user.lease, outcomes=outcomes(user.ids)))
    await service.feedback.ListPending(pb.ListPendingRequest(page_size=5))
    await service.feedback.RequeueUsers(pb.RequeueUsersRequest(user_ids=list(users)))
    database.command("profile", 0)
    looked_at = list(database["system.profile"].find({"docsExamined": {"$gt": 0}}))
    # The events of ten sessions, while they are few.
    assert 0 < max(operation["docsExamined"] for operation in looked_at) <= 10 * FEW_EVENTS + 1
    assert 0 < max(operation["keysExamined"] for operation in looked_at) <= 10 * (FEW_EVENTS + 1)
