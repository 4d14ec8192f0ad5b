"""An erased user is gone from every collection; what came in meanwhile is refused or gone, too."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from clickstream_service.storage.erasure_guard import ErasureGuard
from tests.clickstream.calls import create, create_all, push, refusal
from tests.clickstream.privacy.conftest import Private, serving_privately, traces, until
from tests.clickstream.samples import a_session, an_event
from tests.clickstream.worker import lease_all, lease_one, record, record_and_submit, refused, settle
from tideline.clickstream.v1 import interaction_pb2, interaction_service_pb2, session_service_pb2
from tideline.clickstream.v1 import privacy_service_pb2 as pb

if TYPE_CHECKING:
    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock

ANN = "ann-4711"
FINISHED, RUNNING = pb.ERASURE_STATE_FINISHED, pb.ERASURE_STATE_RUNNING


async def fill(service: Private, user_id: str) -> None:
    """Two submitted sessions, one that was not, three events and an interaction without a session."""
    await record_and_submit(service, f"{user_id}-1", user_id)
    await record_and_submit(service, f"{user_id}-2", user_id)
    await record(service, f"{user_id}-3", user_id)
    await interact(service, user_id, f"{user_id}-alone")


async def interact(service: Private, user_id: str, interaction_id: str) -> None:
    interaction = interaction_pb2.Interaction(
        interaction_id=interaction_id, feature_id="a", interaction_types=["click"], user_id=user_id
    )
    await service.interactions.RecordInteraction(
        interaction_service_pb2.RecordInteractionRequest(interaction=interaction)
    )


async def test_an_erased_user_is_gone_from_every_collection_and_others_stay(
    service: Private, database: Database[dict[str, Any]]
) -> None:
    await fill(service, ANN)
    await fill(service, "bob")
    receipt = await service.erased(ANN)
    assert dict(receipt.erased) == {"sessions": 3, "events": 3, "interactions": 1, "queued": 2, "leases": 1}
    assert receipt.finished_at.ToDatetime() >= receipt.requested_at.ToDatetime()
    assert traces(database, ANN) == []
    assert database.sessions.count_documents({"user_id": "bob"}) == 3
    assert database.session_events.count_documents({"user_id": "bob"}) == 4
    assert set(await lease_all(service.feedback)) == {"bob"}


async def test_erasing_again_returns_the_receipt_and_a_user_who_came_back_is_erased_anew(
    service: Private, database: Database[dict[str, Any]]
) -> None:
    await fill(service, ANN)
    receipt = await service.erased(ANN)
    assert await service.erased(ANN) == receipt
    await record(service, "new", ANN)
    again = await service.erased(ANN)
    assert again.erasure_id != receipt.erasure_id
    assert dict(again.erased) == {"sessions": 1, "events": 1}
    assert traces(database, ANN) == []
    nobody = await service.erased("never seen")
    assert (nobody.state, dict(nobody.erased)) == (FINISHED, {})


async def test_while_a_worker_holds_the_user_the_erasure_runs_and_what_comes_in_is_refused(
    service: Private, database: Database[dict[str, Any]]
) -> None:
    await fill(service, ANN)
    held = await lease_one(service.feedback)
    receipt = await service.erase(ANN, within_s=1.0)
    assert receipt.state == RUNNING

    expected = (grpc.StatusCode.FAILED_PRECONDITION, "USER_BEING_ERASED")
    assert await refusal(create(service.sessions, a_session("late", user_id=ANN))) == (*expected, "session.user_id")
    assert await refusal(interact(service, ANN, "late")) == (*expected, "interaction.user_id")
    outcomes = await create_all(service.sessions, [a_session("x", user_id=ANN), a_session("y", user_id="bob")])
    assert [outcome.status for outcome in outcomes] == [
        session_service_pb2.SESSION_STATUS_REJECTED,
        session_service_pb2.SESSION_STATUS_CREATED,
    ]
    assert await refusal(push(service.sessions, f"{ANN}-1", [an_event("late")])) == (
        grpc.StatusCode.NOT_FOUND,
        "SESSION_NOT_FOUND",
        "session_id",
    ), "the session is gone already"

    await settle(service.feedback, held)
    finished = await service.erased(ANN)
    assert finished.erasure_id == receipt.erasure_id
    assert traces(database, ANN) == []
    assert await refused(settle(service.feedback, held)) == (grpc.StatusCode.ABORTED, "LEASE_LOST")
    assert (await create(service.sessions, a_session("after", user_id=ANN))).session_id == "after"


async def test_a_worker_that_died_holds_the_erasure_up_until_its_lease_expires(
    service: Private, database: Database[dict[str, Any]]
) -> None:
    await record_and_submit(service, "s1", ANN)
    await lease_one(service.feedback, duration=0.5)
    await service.erased(ANN)
    assert traces(database, ANN) == []


async def test_a_lease_from_before_the_erasure_is_worth_nothing_for_a_user_who_came_back(service: Private) -> None:
    await record_and_submit(service, "s1", ANN)
    old = await lease_one(service.feedback, duration=0.3)
    await service.erased(ANN)
    await record_and_submit(service, "s2", ANN)
    new = await lease_one(service.feedback)
    assert new.lease.fence > old.lease.fence
    assert await refused(settle(service.feedback, old)) == (grpc.StatusCode.ABORTED, "LEASE_LOST")
    assert not (await settle(service.feedback, new)).pending_again


async def test_sessions_and_events_that_stream_in_meanwhile_leave_nothing(
    service: Private, settings: Settings, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    stop = asyncio.Event()

    async def keep_coming(to: Private, name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            session_id = f"{name}-{number}"
            try:
                await record(to, session_id, ANN, events=3)
                await interact(to, ANN, session_id)
                await record_and_submit(to, f"{session_id}-submitted", ANN)
            except grpc.aio.AioRpcError as error:
                assert error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND)  # noqa: PT017
                continue

    async with serving_privately(settings, clock) as other:
        coming = [asyncio.create_task(keep_coming(to, f"{n}")) for n, to in enumerate((service, service, other, other))]
        await until(lambda: database.sessions.count_documents({"user_id": ANN}) >= 50)
        receipt = await service.erased(ANN)
        stop.set()
        await asyncio.gather(*coming)
        assert receipt.erased["sessions"] >= 50
        # What came in after the end belongs to a user who began anew.
        await other.erased(ANN)
    assert traces(database, ANN) == []
    contributions = [name for name in database.list_collection_names() if name.startswith("rollup")]
    counted = [d for name in contributions for d in database[name].find({"_id.s": {"$exists": True}})]
    assert counted == [], "nothing of these sessions is in the rollups"


@pytest.mark.parametrize("kind", ["events", "a session"])
async def test_what_a_writer_left_behind_an_erasure_makes_it_look_again(
    kind: str, service: Private, database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = ErasureGuard.watch
    looked, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(self: ErasureGuard, user_ids: Any, **known: Any) -> Any:
        seen = await watch(self, user_ids, **known)
        if user_ids:
            looked.set()
            await go_on.wait()
        return seen

    await create(service.sessions, a_session("s1", user_id=ANN))
    monkeypatch.setattr(ErasureGuard, "watch", slowly)
    recording = asyncio.create_task(
        push(service.sessions, "s1", [an_event("e1")])
        if kind == "events"
        else create_all(service.sessions, [a_session("s2", user_id=ANN)])
    )
    await looked.wait()
    await service.erased(ANN)
    go_on.set()
    [outcome] = await recording
    assert outcome.reason, "it came when the user was erased already"
    await service.erased(ANN)
    assert traces(database, ANN) == []


async def test_a_replica_goes_on_with_what_another_one_left(
    settings: Settings, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    impatient = settings.model_copy(update={"erasure_every": timedelta(hours=1)})
    async with serving_privately(impatient, clock) as service:
        await fill(service, ANN)
        held = await lease_one(service.feedback)
        assert (await service.erase(ANN, within_s=1.0)).state == RUNNING
        await settle(service.feedback, held)
    async with serving_privately(settings, clock):
        await until(lambda: database.erasures.count_documents({"state": "running"}) == 0)
        assert traces(database, ANN) == []
