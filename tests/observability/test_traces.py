"""One chain from a search to the event on it to the run that learns from it, as a collector sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

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


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_what_a_client_calls_goes_on_in_the_clients_own_trace(told: Told, kind: str) -> None:
    service = f"a-{kind}-shop"
    subprocess.run(
        [sys.executable, "-c", SHOP, kind, told.stack.clickstream.address],
        check=True,
        env={**os.environ, "OTEL_SERVICE_NAME": service, "OTEL_EXPORTER_OTLP_ENDPOINT": told.collector.endpoint},
    )
    method = "tideline.clickstream.v1.SessionService/GetSession"
    page, called = told.collector.wait_for(
        lambda span: (span.service, span.name) == (service, "page"),
        lambda span: (span.service, span.name) == (service, method),
    )
    (served,) = told.collector.wait_for(lambda span: span.parent_id == called.span_id)
    assert called.parent_id == page.span_id
    assert (served.service, served.name, served.trace_id) == (RECORDING, method, page.trace_id)
    assert served.attributes["rpc.grpc.status_code"] == called.attributes["rpc.grpc.status_code"] == "NOT_FOUND"


SHOP = """
import asyncio, contextlib, sys
import grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from tideline.clickstream.v1.session_service_pb2 import GetSessionRequest
from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceStub
from tideline.rpc.channels import Access

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
kind, address = sys.argv[1:]

async def call():
    async with Access().aio_channel(address) as channel:
        with contextlib.suppress(grpc.RpcError):
            await SessionServiceStub(channel).GetSession(GetSessionRequest(session_id="nobody"))

with trace.get_tracer("shop").start_as_current_span("page"):
    if kind == "asyncio":
        asyncio.run(call())
    else:
        with Access().channel(address) as channel, contextlib.suppress(grpc.RpcError):
            SessionServiceStub(channel).GetSession(GetSessionRequest(session_id="nobody"))
provider.shutdown()
"""
