"""Searches that are recorded as sessions in the clickstream service."""

from __future__ import annotations

import grpc
import pytest

from tests.improvement.cycle.loop import QUERY, Loop, working
from tideline.clickstream.v1 import session_service_pb2
from tideline.common.v1.error_reason_pb2 import ERROR_REASON_DEPENDENCY_UNAVAILABLE
from tideline.improvement.v1 import search_service_pb2 as pb
from tideline.rpc import status


def recorded_search(loop: Loop, session_id: str = "", **fields: object) -> pb.SearchRequest:
    given = {"collection": loop.collection, "query_vector": QUERY, "user_id": "ann", "limit": 3} | fields
    return pb.SearchRequest(**given, record_session=pb.RecordSession(session_id=session_id))


async def test_a_recorded_search_is_a_session_with_all_that_was_shown(loop: Loop) -> None:
    request = recorded_search(loop, text="boots")
    request.record_session.search_meta.update({"surface": "shop", "slots": [1.0, 2.0]})

    answer = await loop.worker.searches.Search(request)

    session = (
        await loop.sessions.GetSession(session_service_pb2.GetSessionRequest(session_id=answer.session_id))
    ).session
    assert session.user_id == "ann"
    assert session.collection == loop.collection
    assert session.search_query.text == "boots"
    assert list(session.query_vector) == QUERY
    assert session.search_meta == request.record_session.search_meta
    assert [(r.object_id, r.rank) for r in session.search_results] == [
        (result.object_id, rank) for rank, result in enumerate(answer.results, start=1)
    ]
    assert [r.score for r in session.search_results] == [result.score for result in answer.results]


async def test_later_pages_are_recorded_with_their_ranks(loop: Loop) -> None:
    first = await loop.worker.searches.Search(recorded_search(loop))
    second = await loop.worker.searches.Search(recorded_search(loop, page_token=first.next_page_token))

    assert first.session_id != second.session_id
    request = session_service_pb2.GetSessionRequest(session_id=second.session_id)
    shown = (await loop.sessions.GetSession(request)).session.search_results
    assert [result.rank for result in shown] == [4, 5, 6]


async def test_a_recorded_search_can_be_learned_from(loop: Loop) -> None:
    answer = await loop.worker.searches.Search(recorded_search(loop))
    clicked = answer.results[1].object_id
    await loop.act(answer.session_id, clicked)
    await loop.submit(answer.session_id)

    await loop.worker.run()

    assert set(await loop.personal("ann")) == {result.object_id for result in answer.results[:2]}


async def test_an_id_that_was_used_for_another_search_is_refused_as_the_clickstream_service_does(loop: Loop) -> None:
    await loop.worker.searches.Search(recorded_search(loop, "once"))

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await loop.worker.searches.Search(recorded_search(loop, "once", user_id="bob"))

    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert status.reason_of(refused.value) == "SESSION_CONFLICT"


async def test_without_the_clickstream_service_searches_work_and_say_that_they_are_not_recorded(loop: Loop) -> None:
    alone = loop.settings.model_copy(update={"worker": "w2", "clickstream_address": "127.0.0.1:1"})
    async with working(alone) as worker:
        found = await worker.searches.Search(pb.SearchRequest(collection=loop.collection, query_vector=QUERY))
        assert len(found.results) == 10
        unrecorded = await worker.searches.Search(recorded_search(loop, "once"))
        assert unrecorded.results == found.results[:3]
        assert (unrecorded.session_id, unrecorded.not_recorded) == ("", ERROR_REASON_DEPENDENCY_UNAVAILABLE)

        run = await worker.run()

    assert run.error == "the clickstream service does not answer"
