"""A service that stops tells those who are connected, finishes what is under way, and does so in time."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from clickstream_service.app import running
from clickstream_service.domain.erasure import Erasure
from clickstream_service.privacy import Erasures
from tests.clickstream.calls import create
from tests.clickstream.conftest import Clock
from tests.clickstream.samples import a_session, an_event
from tests.clickstream.worker import lease_all, record_and_submit
from tideline.clickstream.v1 import feedback_service_pb2 as feedback_pb
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.clickstream.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceStub
from tideline.rpc.server import OPTIONS, Server
from tideline.rpc.status import reason_of

if TYPE_CHECKING:
    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Service

LONG = timedelta(minutes=2)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A grace that no test could wait for."""
    return settings.model_copy(update={"stop_grace": LONG})


def delays(error: grpc.aio.AioRpcError) -> list[int]:
    status = rpc_status.from_call(error)
    info = error_details_pb2.RetryInfo()
    return [info.retry_delay.seconds for detail in status.details if detail.Unpack(info)]


async def test_an_open_stream_ends_at_once_with_what_was_taken_answered_and_a_reason_to_come_back(
    settings: Settings,
) -> None:
    began = time.monotonic()
    async with running(settings, Clock()) as port:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS)
        sessions = SessionServiceStub(channel)
        await create(sessions, a_session("s1"))
        stream = sessions.StreamEvents()
        await stream.write(pb.StreamEventsRequest(sequence=1, session_id="s1", events=[an_event("e1")]))
        assert (await stream.read()).sequence == 1
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stream.read()
    assert (ended.value.code(), reason_of(ended.value)) == (grpc.StatusCode.UNAVAILABLE, "SERVER_STOPPING")
    assert delays(ended.value) == [1]
    assert time.monotonic() - began < LONG.total_seconds() / 2
    await channel.close()


async def test_a_worker_that_takes_its_time_is_told_and_the_users_it_did_not_get_are_free(
    settings: Settings, service: Service, clock: Clock
) -> None:
    for number in range(3):
        await record_and_submit(service, f"s{number}", f"user {number}")
    async with running(settings, clock) as port:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS)
        stream = FeedbackServiceStub(channel).LeaseFeedback(feedback_pb.LeaseFeedbackRequest(owner="w1"))
        leased = [(await stream.read()).lease.user_id for _ in range(3)]
    assert sorted(leased) == [f"user {number}" for number in range(3)]
    await channel.close()
    freed = await service.feedback.ReleaseLease(feedback_pb.ReleaseLeaseRequest(owner="w1"))
    assert freed.released == 3
    assert len(await lease_all(service.feedback, "w2")) == 3


async def test_a_call_that_does_not_end_within_the_grace_is_told_why() -> None:
    begun = asyncio.Event()

    async def wait(request: pb.GetSessionRequest, context: object) -> pb.GetSessionRequest:
        begun.set()
        await asyncio.Event().wait()
        return request

    server = Server()
    method = grpc.unary_unary_rpc_method_handler(
        wait, pb.GetSessionRequest.FromString, pb.GetSessionRequest.SerializeToString
    )
    server.grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", {"Wait": method}),))
    port = server.listen("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/test.Test/Wait")(pb.GetSessionRequest(session_id="s").SerializeToString())
        await begun.wait()
        await server.stop(0.5)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call
    assert (ended.value.code(), reason_of(ended.value)) == (grpc.StatusCode.UNAVAILABLE, "SERVER_STOPPING")


async def test_a_call_whose_deadline_is_over_is_not_begun(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await service.sessions.CreateSession(pb.CreateSessionRequest(session=a_session("late")), timeout=0)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.sleep(0)
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await service.sessions.GetSession(pb.GetSessionRequest(session_id="late"))
    assert missing.value.code() is grpc.StatusCode.NOT_FOUND


class NothingToErase:
    """Knows of no erasure that has to be carried on."""

    async def begin(self, user_id: str, now: datetime) -> Erasure:
        return Erasure(user_id, requested_at=now, finished_at=now, erased={})

    async def claim(self, _: timedelta) -> None:
        return None


async def test_a_stop_in_the_moment_in_which_something_happens_is_not_missed() -> None:
    erasures = Erasures(NothingToErase(), None, None, timedelta(0), lambda: datetime.now(UTC))  # type: ignore[arg-type]
    background = asyncio.create_task(erasures.run(timedelta(minutes=1)))
    await asyncio.sleep(0)
    await erasures.erase("ann", None)
    background.cancel()
    await asyncio.wait([background])
    assert background.cancelled()
