"""Many writers at once, over one and over two instances of the service."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.clickstream.calls import create, create_all, get, push
from tests.clickstream.conftest import serving
from tests.clickstream.samples import a_session, an_event
from tideline.clickstream.v1 import event_pb2 as events_pb
from tideline.clickstream.v1 import session_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock, Service
    from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceAsyncStub

WRITERS = 16


async def write(sessions: SessionServiceAsyncStub, writer: int, rounds: int) -> list[int]:
    """Record sessions one by one and several at a time; the numbers that they were given."""
    numbers = []
    for turn in range(rounds):
        numbers.append((await create(sessions, a_session(f"{writer}-{turn}"))).session_number)
        several = [a_session(f"{writer}-{turn}-{part}") for part in range(3)]
        numbers += [outcome.session_number for outcome in await create_all(sessions, several)]
    return numbers


def assert_gapless(database: Database[dict[str, Any]], answered: Sequence[int]) -> None:
    expected = list(range(1, len(answered) + 1))
    assert sorted(answered) == expected
    stored = database.sessions.find({}, {"session_number": 1, "batch_id": 1})
    places = [(session["batch_id"], session["session_number"]) for session in stored]
    [batch] = database.session_batches.find()
    assert sorted(places) == [(batch["_id"], number) for number in expected]
    assert batch["count"] == len(answered)


async def test_sixteen_writers_get_numbers_without_gaps(service: Service, database: Database[dict[str, Any]]) -> None:
    numbers = await asyncio.gather(*(write(service.sessions, writer, 10) for writer in range(WRITERS)))
    assert_gapless(database, [number for given in numbers for number in given])
    # Each writer sees its own sessions in the order in which it recorded them.
    assert all(given == sorted(given) for given in numbers)


async def test_two_instances_share_a_batch_without_gaps(
    service: Service, settings: Settings, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    async with serving(settings, clock) as other:
        numbers = await asyncio.gather(
            *(write((service, other)[writer % 2].sessions, writer, 6) for writer in range(WRITERS))
        )
    assert_gapless(database, [number for given in numbers for number in given])


async def test_a_session_sent_to_two_instances_at_once_is_recorded_once(
    service: Service, settings: Settings, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    async with serving(settings, clock) as other:
        for turn in range(20):
            sent = [create(each.sessions, a_session(f"s{turn}")) for each in (service, other, service)]
            first, *others = await asyncio.gather(*sent)
            assert all(session == first for session in others)
    assert_gapless(database, range(1, 21))


async def test_one_of_two_different_sessions_under_one_id_wins(
    service: Service, settings: Settings, clock: Clock
) -> None:
    async with serving(settings, clock) as other:
        for turn in range(20):
            outcomes = await asyncio.gather(
                create_all(service.sessions, [a_session(f"s{turn}", user_id="ann")]),
                create_all(other.sessions, [a_session(f"s{turn}", user_id="bob")]),
            )
            statuses = [outcome.status for [outcome] in outcomes]
            assert sorted(statuses) == [pb.SESSION_STATUS_CREATED, pb.SESSION_STATUS_CONFLICT]
            winner = ("ann", "bob")[statuses.index(pb.SESSION_STATUS_CREATED)]
            assert (await get(service.sessions, f"s{turn}")).session.user_id == winner


async def test_an_event_sent_to_two_instances_at_once_is_accepted_once(
    service: Service, settings: Settings, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    await create(service.sessions, a_session("s1"))
    statuses = Counter[int]()
    async with serving(settings, clock) as other:
        calls = [
            push(each.sessions, "s1", [an_event(f"e{number}") for number in range(start, start + 30)])
            for start in range(0, 100, 10)
            for each in (service, other)
        ]
        for outcomes in await asyncio.gather(*calls):
            statuses.update(outcome.status for outcome in outcomes)
    assert statuses == {events_pb.EVENT_STATUS_ACCEPTED: 120, events_pb.EVENT_STATUS_DUPLICATE: 480}
    assert database.session_events.count_documents({}) == 120


@pytest.mark.parametrize("bytes_per_write", [1, 1500])
async def test_sessions_and_events_larger_than_a_write_are_written_over_several(
    settings: Settings, clock: Clock, database: Database[dict[str, Any]], bytes_per_write: int
) -> None:
    async with serving(settings.model_copy(update={"bytes_per_write": bytes_per_write}), clock) as service:
        outcomes = await create_all(service.sessions, [a_session(f"s{number}") for number in range(40)])
        assert_gapless(database, [outcome.session_number for outcome in outcomes])
        answered = await push(service.sessions, "s0", [an_event(f"e{number}") for number in range(40)])
    assert {outcome.status for outcome in answered} == {events_pb.EVENT_STATUS_ACCEPTED}
    assert database.session_events.count_documents({}) == 40


async def test_a_group_that_meets_what_another_instance_recorded_records_the_rest_without_gaps(
    service: Service, settings: Settings, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    async with serving(settings, clock) as other:
        told: list[pb.SessionOutcome] = []
        for turn in range(6):
            shared = [a_session(f"{turn}-{part}") for part in range(10)]
            own = [[a_session(f"{turn}-{who}-{part}") for part in range(10)] for who in range(2)]
            # The ids in common lie in different places, so that each may find the other in the middle of its own.
            calls = [
                create_all(service.sessions, [*own[0], *shared]),
                create_all(other.sessions, [*shared[5:], *own[1], *shared[:5]]),
                create_all(other.sessions, shared),
            ]
            told += [outcome for outcomes in await asyncio.gather(*calls) for outcome in outcomes]
    statuses = Counter(outcome.status for outcome in told)
    assert statuses == {pb.SESSION_STATUS_CREATED: 6 * 30, pb.SESSION_STATUS_DUPLICATE: 6 * 20}
    numbers: dict[str, set[int]] = {}
    for outcome in told:
        numbers.setdefault(outcome.session_id, set()).add(outcome.session_number)
    assert_gapless(database, [number for [number] in numbers.values()])
