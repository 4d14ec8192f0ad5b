"""One bad session, one bad user, one bad write: what they come to, and that nobody else is hurt."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from improvement_service.feedback.client import ClickstreamClient
from tests.improvement.cycle.loop import OBJECTS, QUERY, Loop, object_vectors, working
from tests.improvement.cycle.stores import FailingStore
from tideline.clickstream.v1 import feedback_service_pb2, session_pb2
from tideline.errors import DependencyUnavailable
from tideline.improvement.v1 import improvement_service_pb2 as pb

if TYPE_CHECKING:
    from pymongo import MongoClient

    from improvement_service.domain.scoring import Floats


async def states(loop: Loop) -> dict[int, int]:
    """Sessions by their state in the queue."""
    counted = await loop.feedback.GetFeedbackCounts(feedback_service_pb2.GetFeedbackCountsRequest())
    return {each.state: each.count for each in counted.sessions if each.count}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"query": []}, "no_query_vector"),
        ({"query": [], "search_query": session_pb2.SearchQuery(text="boots")}, "no_query_vector"),
        ({"collection": "nowhere"}, "unknown_collection"),
        ({"collection": ""}, "unknown_collection"),
        ({"clicked": []}, "no_positive"),
        ({"clicked": [], "events": {OBJECTS[0]: "view"}}, "no_positive"),
        ({"clicked": ["gone"], "shown": ["gone", "away"]}, "no_known_objects"),
    ],
)
async def test_a_session_that_says_nothing_is_left_out_with_its_reason(
    loop: Loop, fields: dict[str, Any], reason: str
) -> None:
    clicked = fields.pop("clicked", [OBJECTS[0]])
    await loop.record("ann", *clicked, **fields)
    await loop.record("ann", OBJECTS[1])

    run = await loop.worker.run()

    assert run.sessions == pb.SessionCounts(done=1, skipped=1, by_reason={reason: 1})
    assert set(await loop.personal("ann")) == set(OBJECTS[:2])
    assert await loop.pending() == set()


@pytest.mark.parametrize(
    ("query", "reason"),
    [([1.0, 0.0], "dimension_mismatch"), ([0.0] * len(QUERY), "invalid_query_vector")],
)
async def test_a_session_with_a_bad_query_vector_fails_and_its_user_is_learned_from_all_the_same(
    loop: Loop, query: list[float], reason: str
) -> None:
    await loop.record("ann", OBJECTS[0], query=query)
    await loop.record("ann", OBJECTS[1])
    await loop.record("bob", OBJECTS[1])

    run = await loop.worker.run()

    assert run.state == pb.RUN_STATE_SUCCEEDED
    assert run.users == pb.UserCounts(leased=2, settled=2)
    assert run.sessions == pb.SessionCounts(done=2, failed=1, by_reason={reason: 1})
    assert await loop.personal("ann") == await loop.personal("bob") != {}
    assert await loop.pending() == {"ann"}, "the bad session is tried again"
    while await loop.pending():
        await loop.worker.run()
    assert await states(loop) == {
        feedback_service_pb2.FEEDBACK_STATE_DONE: 2,
        feedback_service_pb2.FEEDBACK_STATE_PARKED: 1,
    }
    assert await loop.personal("ann") == await loop.personal("bob")


@pytest.mark.parametrize(
    ("loop", "clicked", "reason"),
    [
        ({"min_session_duration": timedelta(seconds=10)}, [OBJECTS[0]], "too_short"),
        ({"max_clicks": 2}, OBJECTS[:3], "ambiguous"),
    ],
    indirect=["loop"],
)
async def test_settings_of_the_filter_leave_sessions_out(loop: Loop, clicked: list[str], reason: str) -> None:
    searched_at = datetime.now(UTC) - timedelta(minutes=1)
    await loop.record("ann", *clicked, created_at=None if reason == "too_short" else searched_at)
    await loop.record("bob", OBJECTS[0], created_at=searched_at)

    run = await loop.worker.run()

    assert run.sessions == pb.SessionCounts(done=1, skipped=1, by_reason={reason: 1})
    assert await loop.personal("ann") == {}
    assert await loop.personal("bob") != {}


@pytest.mark.parametrize("loop", [{"prefer_below_top": 3}], indirect=True)
async def test_clicks_on_the_first_results_alone_can_count_less(loop: Loop) -> None:
    await loop.record("top", OBJECTS[0])
    await loop.record("below", OBJECTS[0], shown=[*OBJECTS[3:6], OBJECTS[0]])

    await loop.worker.run()

    [top], [below] = (await loop.personal("top"))[OBJECTS[0]], (await loop.personal("below"))[OBJECTS[0]]
    original = object_vectors()[0]
    assert angle(original, top) == pytest.approx(angle(original, below) / 2, abs=1e-4)


def angle(one: Floats, other: list[float]) -> float:
    return math.acos(sum(a * b for a, b in zip(one.tolist(), other, strict=True)))


@pytest.mark.parametrize("error", [DependencyUnavailable("down"), RuntimeError("a defect")])
async def test_a_failed_write_fails_its_user_only_and_is_made_up_for_by_the_next_run(
    loop: Loop, error: Exception
) -> None:
    store = FailingStore(loop.settings.milvus_uri)
    async with working(loop.settings.model_copy(update={"worker": "w2"}), store) as worker:
        for user_id in ("ann", "bob", "cid"):
            await loop.record(user_id, OBJECTS[2])
        store.failing = {"bob": error}

        run = await worker.run()

        assert run.state == pb.RUN_STATE_SUCCEEDED
        assert run.users == pb.UserCounts(leased=3, settled=2, failed=1)
        assert run.sessions == pb.SessionCounts(done=2, failed=1, by_reason={"upsert_failed": 1})
        assert await loop.personal("ann") == await loop.personal("cid") != {}
        assert await loop.pending() == {"bob"}

        store.failing = {}
        run = await worker.run()
        assert run.users == pb.UserCounts(leased=1, settled=1)
        assert await loop.personal("bob") == await loop.personal("ann")


async def test_what_is_to_be_unlearned_stays_pending_however_often_its_write_fails(loop: Loop) -> None:
    store = FailingStore(loop.settings.milvus_uri)
    async with working(loop.settings.model_copy(update={"worker": "w2"}), store) as worker:
        unwanted = await loop.record("ann", OBJECTS[2])
        await worker.run()
        await loop.mark_irrelevant(unwanted)
        store.failing = {"ann": DependencyUnavailable("down")}
        for _ in range(12):
            run = await worker.run()
            assert run.users == pb.UserCounts(leased=1, failed=1)

        store.failing = {}
        await worker.run()

        assert await loop.personal("ann") == {}
        assert await loop.pending() == set()


async def test_an_outage_of_writes_parks_nobody(loop: Loop) -> None:
    store = FailingStore(loop.settings.milvus_uri)
    async with working(loop.settings.model_copy(update={"worker": "w2"}), store) as worker:
        users = [f"user {number}" for number in range(6)]
        for user_id in users:
            await loop.record(user_id, OBJECTS[2])
        store.failing = dict.fromkeys(users, DependencyUnavailable("down"))
        for _ in range(8):
            run = await worker.run()
            assert run.users == pb.UserCounts(leased=6, failed=6)

        store.failing = {}
        run = await worker.run()

        assert run.users == pb.UserCounts(leased=6, settled=6)


async def test_a_run_without_a_vector_database_fails_and_gives_all_users_back(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FailingStore(loop.settings.milvus_uri)

    async def down(*_: object) -> None:
        raise DependencyUnavailable("the vector database does not answer")

    async with working(loop.settings.model_copy(update={"worker": "w2"}), store) as worker:
        await loop.record("ann", OBJECTS[2])
        with monkeypatch.context() as patch:
            patch.setattr(store, "fetch_originals", down)
            run = await worker.run()
        assert run.state == pb.RUN_STATE_FAILED
        assert run.error == "the vector database does not answer"
        assert run.users == pb.UserCounts(leased=1)
        assert await states(loop) == {feedback_service_pb2.FEEDBACK_STATE_PENDING: 1}

        assert (await worker.run()).users == pb.UserCounts(leased=1, settled=1)


async def test_a_run_none_of_whose_users_can_be_settled_fails_and_is_made_up_for(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*_: object) -> None:
        raise DependencyUnavailable("the clickstream service does not answer")

    for user_id in ("ann", "bob"):
        await loop.record(user_id, OBJECTS[2])
    with monkeypatch.context() as patch:
        patch.setattr(ClickstreamClient, "settle", down)
        run = await loop.worker.run()
    assert (run.state, run.error) == (pb.RUN_STATE_FAILED, "the clickstream service does not answer")
    assert run.users == pb.UserCounts(leased=2, failed=2)

    # They are given back at the end of the run: nobody waits for leases to expire.
    assert (await loop.worker.run()).users == pb.UserCounts(leased=2, settled=2)


async def test_originals_that_change_while_a_run_writes_are_noticed(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FailingStore(loop.settings.milvus_uri)
    replace = store.replace_personal_many
    async with working(loop.settings.model_copy(update={"worker": "w2"}), store) as worker:
        await loop.record("ann", OBJECTS[1])

        async def change_first(*arguments: Any) -> int:
            await loop.upsert(object_vectors(seed=4))
            return await replace(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(store, "replace_personal_many", change_first)
            run = await worker.run()
        assert run.sessions == pb.SessionCounts(failed=1, by_reason={"original_changed": 1})
        assert await loop.personal("ann") == {}

        await worker.run()
        assert set(await loop.personal("ann")) == set(OBJECTS[:2])


async def test_personal_data_is_not_in_the_record_of_a_run(
    loop: Loop, mongo_client: MongoClient[dict[str, Any]]
) -> None:
    await loop.record(
        "a-name-to-look-for", OBJECTS[1], search_query=session_pb2.SearchQuery(text="a-query-to-look-for")
    )
    await loop.worker.run()

    kept = list(mongo_client[loop.settings.mongo_database].runs.find())

    assert len(kept) == 1
    assert "to-look-for" not in str(kept)
