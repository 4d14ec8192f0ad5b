"""The database is told for how long a caller still waits: of streams, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.clickstream.calls import get, refusal
from tests.clickstream.samples import a_session
from tests.clickstream.worker import record_and_submit
from tideline.clickstream.v1 import feedback_service_pb2 as feedback_pb
from tideline.clickstream.v1 import interaction_service_pb2 as interaction_pb
from tideline.clickstream.v1 import session_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database

    from tests.clickstream.conftest import Service

WAITS_S = 600
MONTHS_S = 100 * 86_400


@pytest.fixture
def limits(service: Service, database: Database[dict[str, Any]]) -> Iterator[Database[dict[str, Any]]]:
    """The database, noting every command."""
    assert service.port
    database.command("profile", 2)
    yield database
    database.command("profile", 0)


def limited(database: Database[dict[str, Any]], collection: str) -> bool:
    """Whether a command on this collection was not to take longer than the caller waits."""
    commands = database["system.profile"].find({"ns": f"{database.name}.{collection}"})
    return any(0 < command["command"].get("maxTimeMS", 0) <= (WAITS_S + 1) * 1000 for command in commands)


async def test_streams_limit_what_they_do_in_the_database_as_other_calls_do(
    service: Service, limits: Database[dict[str, Any]]
) -> None:
    async for _ in service.interactions.ExportInteractions(interaction_pb.ExportInteractionsRequest(), timeout=WAITS_S):
        pass
    assert limited(limits, "session_events")

    async for _ in service.feedback.LeaseFeedback(feedback_pb.LeaseFeedbackRequest(owner="w"), timeout=WAITS_S):
        pass
    assert limited(limits, "user_leases")


async def test_a_stream_whose_deadline_is_over_is_not_begun(service: Service) -> None:
    await record_and_submit(service, "s1")
    late = service.feedback.LeaseFeedback(feedback_pb.LeaseFeedbackRequest(owner="late"), timeout=0)
    assert (await refusal(late.read())).code is grpc.StatusCode.DEADLINE_EXCEEDED
    in_time = service.feedback.LeaseFeedback(feedback_pb.LeaseFeedbackRequest(owner="w"))
    assert (await in_time.read()).lease.user_id == "ann"


async def test_a_deadline_in_months_is_as_good_as_none(service: Service) -> None:
    """Calls were INTERNAL whose milliseconds are no 32-bit number."""
    await service.sessions.CreateSession(pb.CreateSessionRequest(session=a_session("s1")), timeout=MONTHS_S)
    assert (await get(service.sessions, "s1")).session.session_id == "s1"
    found = await service.sessions.GetSession(pb.GetSessionRequest(session_id="s1"), timeout=MONTHS_S)
    assert found.session.session_id == "s1"
    stream = service.interactions.ExportInteractions(interaction_pb.ExportInteractionsRequest(), timeout=MONTHS_S)
    assert [answer async for answer in stream] == [interaction_pb.ExportInteractionsResponse()]
