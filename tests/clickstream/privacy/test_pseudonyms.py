"""With keys, whatever names a user by an id finds and stores the pseudonym, and the id is nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.clickstream.calls import Refusal, create, create_all, push, refusal
from tests.clickstream.privacy.conftest import serving_privately, traces
from tests.clickstream.privacy.keys import keys_file, under
from tests.clickstream.samples import a_session, an_event
from tideline.clickstream.v1 import (
    batch_service_pb2,
    feedback_service_pb2,
    interaction_pb2,
    interaction_service_pb2,
    privacy_service_pb2,
    session_service_pb2,
)
from tideline.rpc.pseudonyms import WrongUserKeys

if TYPE_CHECKING:
    from pathlib import Path

    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock
    from tests.clickstream.privacy.conftest import Private

ANN = "ann-4711@example.org"
CONFLICT = (grpc.StatusCode.ALREADY_EXISTS, "SESSION_CONFLICT")


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"user_keys_file": keys_file(tmp_path, 1)})


def alone(interaction_id: str, user_id: str) -> interaction_pb2.Interaction:
    return interaction_pb2.Interaction(
        interaction_id=interaction_id, feature_id="a", interaction_types=["purchase"], user_id=user_id
    )


async def record(service: Private, interaction: interaction_pb2.Interaction) -> bool:
    request = interaction_service_pb2.RecordInteractionRequest(interaction=interaction)
    return (await service.interactions.RecordInteraction(request)).duplicate


async def listed(service: Private, *user_ids: str) -> list[interaction_pb2.Interaction]:
    """Their interactions, asked for by a filter that holds others."""
    match = interaction_pb2.InteractionFilter(match=interaction_pb2.InteractionMatch(user_ids=user_ids))
    both = interaction_pb2.InteractionFilter(all_of=interaction_pb2.InteractionFilterList(filters=[match, match]))
    request = interaction_service_pb2.ListInteractionsRequest(filter=both)
    return list((await service.interactions.ListInteractions(request)).interactions)


async def exported(service: Private, user_id: str) -> tuple[int, int, int]:
    """How many sessions, events in them and interactions are known of a user."""
    request = privacy_service_pb2.ExportUserRequest(user_id=user_id)
    parts = [part async for part in service.privacy.ExportUser(request)]
    sessions = [session for part in parts for session in part.sessions]
    return len(sessions), sum(len(s.events) for s in sessions), sum(len(part.interactions) for part in parts)


async def shop(service: Private, user_id: str) -> None:
    """Do all that names a user, or has one from a session."""
    await create(service.sessions, a_session("s1", user_id=user_id))
    await create_all(service.sessions, [a_session("s2", user_id=user_id), a_session("s3", user_id="")])
    await push(service.sessions, "s1", [an_event("e1")])
    await record(service, alone("i1", user_id))
    await service.batches.UseSessionForImprovement(batch_service_pb2.UseSessionForImprovementRequest(session_id="s1"))


async def test_a_user_id_is_nowhere_in_the_database_and_finds_all_that_was_recorded(
    service: Private, database: Database[dict[str, Any]]
) -> None:
    await shop(service, ANN)
    assert traces(database, ANN, "ann-4711") == []
    pseudonym = under(1, ANN)
    assert {"sessions", "session_events", "sessions_for_improvement", "user_leases"} <= set(traces(database, pseudonym))
    for user_id in (ANN, pseudonym):
        assert await exported(service, user_id) == (2, 1, 1)
        assert len(await listed(service, "nobody", user_id)) == 2
        request = session_service_pb2.ListSessionsRequest(user_id=user_id)
        sessions = (await service.sessions.ListSessions(request)).sessions
        assert {session.user_id for session in sessions} == {pseudonym}
        requeue = feedback_service_pb2.RequeueUsersRequest(user_ids=["nobody", user_id])
        assert (await service.feedback.RequeueUsers(requeue)).requeued == 1


async def test_nobody_stays_nobody(service: Private, database: Database[dict[str, Any]]) -> None:
    await create(service.sessions, a_session("s1", user_id=""))
    await record(service, alone("i1", ""))
    found = [*database.sessions.find(), *database.session_events.find()]
    assert [document["user_id"] for document in found] == ["", ""]
    request = session_service_pb2.ListSessionsRequest(user_id="")
    assert len((await service.sessions.ListSessions(request)).sessions) == 1


async def test_a_retry_is_one_under_either_name_and_another_user_is_a_conflict(service: Private) -> None:
    for user_id in (ANN, under(1, ANN)):
        first = await create(service.sessions, a_session("s1", user_id=user_id))
        assert first.user_id == under(1, ANN)
    assert (await refusal(create(service.sessions, a_session("s1", user_id="bob"))))[:2] == CONFLICT
    assert [await record(service, alone("i1", user_id)) for user_id in (ANN, under(1, ANN))] == [False, True]
    assert (await refusal(record(service, alone("i1", "bob")))).reason == "EVENT_CONFLICT"


async def test_a_page_goes_on_under_either_name(service: Private) -> None:
    await shop(service, ANN)
    request = session_service_pb2.ListSessionsRequest(user_id=ANN, page_size=1)
    first = await service.sessions.ListSessions(request)
    again = session_service_pb2.ListSessionsRequest(
        user_id=under(1, ANN), page_size=1, page_token=first.next_page_token
    )
    second = await service.sessions.ListSessions(again)
    assert {session.session_id for page in (first, second) for session in page.sessions} == {"s1", "s2"}


async def test_ids_that_the_contract_refuses_are_refused_and_not_made_to_fit(service: Private) -> None:
    for odd in ("x" * 513, "a\0b"):
        sessions = [a_session("s1", user_id=odd), a_session("s2", user_id=ANN)]
        refused, taken = await create_all(service.sessions, sessions)
        assert refused.field == "user_id"
        assert taken.session_id == "s2"
        single = await refusal(create(service.sessions, a_session("s1", user_id=odd)))
        assert single == Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "session.user_id")
    await create(service.sessions, a_session("s3", user_id="x" * 512))


async def test_a_pseudonym_under_a_key_that_is_not_there_is_refused_by_its_place(service: Private) -> None:
    newer = under(2, ANN)
    sessions = [a_session("s1"), a_session("s2", user_id=newer)]
    assert (await refusal(create_all(service.sessions, sessions))).field == "sessions[1].user_id"
    assert (await refusal(exported(service, newer))).field == "user_id"
    looks_so_only = newer[:-1]
    assert (await create(service.sessions, a_session("s1", user_id=looks_so_only))).user_id == under(1, looks_so_only)


async def test_an_erasure_by_the_id_leaves_no_trace_of_the_pseudonym_either(
    service: Private, database: Database[dict[str, Any]]
) -> None:
    await shop(service, ANN)
    receipt = await service.erased(ANN)
    assert dict(receipt.erased) == {"sessions": 2, "events": 1, "interactions": 1, "queued": 1, "leases": 1}
    assert traces(database, ANN, under(1, ANN)) == []
    assert (await service.erased(under(1, ANN))).erasure_id == receipt.erasure_id
    assert await exported(service, ANN) == (0, 0, 0)


async def test_without_its_keys_the_service_does_not_start(
    service: Private, settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text(keys_file(tmp_path, 3).read_text().splitlines()[2].replace("k3", "k1"))
    other.chmod(0o600)
    for path, said in (
        (None, "CLICKSTREAM_USER_KEYS_FILE is not set"),
        (keys_file(tmp_path, 2), "run `tideline rekey clickstream`"),
        (other, "other keys"),
        (tmp_path / "none", "cannot be read"),
    ):
        with pytest.raises(WrongUserKeys, match=said):
            async with serving_privately(settings.model_copy(update={"user_keys_file": path}), clock):
                pass
    async with serving_privately(settings, clock):
        pass


async def test_keys_are_not_taken_for_a_database_that_has_ids_already(
    settings: Settings, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    async with serving_privately(settings.model_copy(update={"user_keys_file": None}), clock) as plain:
        await create(plain.sessions, a_session("s1", user_id=""))
        await create(plain.sessions, a_session("s2", user_id=ANN))
    assert "pseudonyms" not in database.list_collection_names()
    with pytest.raises(WrongUserKeys, match=r"from before it was set.* run `tideline rekey clickstream`"):
        async with serving_privately(settings, clock):
            pass
    database.sessions.delete_one({"_id": "s2"})
    async with serving_privately(settings, clock):
        pass
