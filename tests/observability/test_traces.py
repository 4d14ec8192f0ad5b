"""One chain from a search to the event on it to the run that learns from it, as a collector sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.observability.conftest import CLIENT_SPAN, EVENT, RUN, SEARCH, TEXT, USER

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.observability.collector import Span
    from tests.observability.conftest import Told

SEARCHED = "tideline.improvement.v1.SearchService/Search"
RECORDED = "tideline.clickstream.v1.SessionService/CreateSession"
PUSHED = "tideline.clickstream.v1.SessionService/PushEvents"
LEASED = "tideline.clickstream.v1.FeedbackService/LeaseFeedback"
SETTLED = "tideline.clickstream.v1.FeedbackService/SettleFeedback"
LEARNING, RECORDING = "tideline-improvement", "tideline-clickstream"


def a(service: str, name: str, trace_id: str) -> Callable[[Span], bool]:
    return lambda span: (span.service, span.name, span.trace_id) == (service, name, trace_id)


def test_a_search_is_one_trace_through_both_services_and_both_databases(told: Told) -> None:
    search, milvus, _, asked, recorded, commit, inserted = told.collector.wait_for(
        a(LEARNING, SEARCHED, SEARCH),
        a(LEARNING, "milvus search", SEARCH),
        a(LEARNING, "mongodb find", SEARCH),
        a(LEARNING, RECORDED, SEARCH),
        a(RECORDING, RECORDED, SEARCH),
        a(RECORDING, "commit sessions", SEARCH),
        a(RECORDING, "mongodb insert", SEARCH),
    )
    assert search.parent_id == CLIENT_SPAN
    assert milvus.parent_id == asked.parent_id == search.span_id
    assert recorded.parent_id == asked.span_id
    assert commit.parent_id == recorded.span_id
    assert inserted.parent_id == commit.span_id
    assert inserted.attributes["db.collection.name"] == "sessions"
    assert search.attributes["rpc.grpc.status_code"] == "OK"


def test_an_event_and_the_run_that_learns_from_it_link_to_the_search(told: Told) -> None:
    recorded, pushed, commit = told.collector.wait_for(
        a(RECORDING, RECORDED, SEARCH), a(RECORDING, PUSHED, EVENT), a(RECORDING, "commit events", EVENT)
    )
    assert commit.parent_id == pushed.span_id
    assert commit.links == ((SEARCH, recorded.span_id),)

    run, adjust, upsert, *_ = told.collector.wait_for(
        a(LEARNING, "improvement run", RUN),
        a(LEARNING, "adjust", RUN),
        a(LEARNING, "upsert", RUN),
        a(LEARNING, "milvus upsert", RUN),
        a(RECORDING, LEASED, RUN),
        a(RECORDING, SETTLED, RUN),
    )
    assert adjust.links == upsert.links == ((SEARCH, recorded.span_id),)
    assert adjust.parent_id == upsert.parent_id == run.span_id


def test_traces_tell_nothing_of_who_searched_for_what(told: Told) -> None:
    told.collector.wait_for(a(LEARNING, "improvement run", RUN))
    for span in told.collector.spans():
        said = json.dumps([span.name, {key: str(value) for key, value in span.attributes.items()}], ensure_ascii=False)
        assert not any(secret in said for secret in (USER, TEXT, told.session_id)), said
