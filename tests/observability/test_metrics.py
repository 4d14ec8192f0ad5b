"""Metrics as Prometheus scrapes them from running services."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from clickstream_service.app import running
from clickstream_service.config import Settings
from deploy.local.processes import free_port
from improvement_service.domain.feedback import Reason
from tests.observability.conftest import TEXT, USER, scrape
from tideline.clickstream.v1 import event_pb2, session_pb2, session_service_pb2, session_service_pb2_grpc
from tideline.clickstream.v1.batch_service_pb2 import UseSessionForImprovementRequest
from tideline.clickstream.v1.batch_service_pb2_grpc import BatchServiceStub
from tideline.clickstream.v1.feedback_service_pb2 import LeaseFeedbackRequest
from tideline.clickstream.v1.feedback_service_pb2_grpc import FeedbackServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pymongo import MongoClient

    from tests.observability.conftest import Samples, Told


def value(samples: Samples, name: str, **labels: str) -> float:
    """The value of the sample with these labels; 0 when there is none."""
    return sum(float(sample[""]) for sample in samples.get(name, ()) if labels.items() <= sample.items())


@asynccontextmanager
async def serving(mongo_uri: str, database: str) -> AsyncIterator[tuple[grpc.aio.Channel, int]]:
    """A clickstream service in this process, and the port of its metrics."""
    port = free_port()
    settings = Settings(
        mongo_uri=mongo_uri,
        mongo_database=database,
        listen="127.0.0.1:0",
        metrics_listen=f"127.0.0.1:{port}",
        stop_grace=timedelta(0),
    )
    async with running(settings) as listening, grpc.aio.insecure_channel(f"127.0.0.1:{listening}") as channel:
        yield channel, port


async def until(port: int, so: Callable[[Samples], bool]) -> Samples:
    """Scrape until that is so, and return what was scraped."""
    while not so(samples := await asyncio.to_thread(scrape, port)):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.02)
    return samples


def test_a_run_tells_what_it_did(told: Told) -> None:
    learned = scrape(told.ports["improvement"])
    assert value(learned, "tideline_improvement_runs_total", state="succeeded") == 1
    assert value(learned, "tideline_improvement_users_total", outcome="settled") == 1
    assert value(learned, "tideline_improvement_sessions_total", state="done") == 1
    assert value(learned, "tideline_improvement_vectors_moved_total") == 3
    assert value(learned, "tideline_improvement_angle_radians_total") > 0
    assert 0 < value(learned, "tideline_improvement_largest_angle_radians") <= 0.15001
    assert time.time() - value(learned, "tideline_improvement_last_run_timestamp_seconds") < 3600
    stages = {sample["stage"] for sample in learned["tideline_improvement_stage_seconds_total"]}
    assert stages == {"lease", "embed", "fetch", "adjust", "upsert", "settle"}
    assert value(learned, "tideline_improvement_overlays_total", source="milvus") == 1
    assert value(learned, "tideline_improvement_overlays_total", source="cache") == 1
    assert value(learned, "tideline_improvement_overlays_total", source="none") == 1
    for dependency in ("mongodb", "milvus"):
        assert value(learned, "tideline_dependency_seconds_count", dependency=dependency) > 0
        assert value(learned, "tideline_dependency_up", dependency=dependency) == 1


def test_writes_and_calls_are_counted(told: Told) -> None:
    recorded = scrape(told.ports["clickstream"])
    assert value(recorded, "tideline_clickstream_group_commit_items_sum", write="sessions") >= 1
    assert value(recorded, "tideline_clickstream_group_commit_items_sum", write="events") == 2
    assert value(recorded, "tideline_clickstream_group_commit_wait_seconds_count", write="events") == 2
    stream = {"service": "tideline.clickstream.v1.SessionService", "method": "StreamEvents"}
    assert value(recorded, "tideline_rpc_stream_messages_total", **stream, direction="received") == 1
    assert value(recorded, "tideline_rpc_stream_messages_total", **stream, direction="sent") == 1
    assert value(recorded, "tideline_rpc_handled_total", **stream, code="OK") == 1
    assert value(recorded, "tideline_rpc_in_flight", method="PushEvents") == 0
    # The event that was sent again after the run has queued its user.
    assert value(recorded, "tideline_clickstream_pending_users") == 1
    assert value(recorded, "tideline_clickstream_rollup_lag_seconds") < 600


def test_labels_have_few_values_and_tell_nothing_of_anybody(told: Told) -> None:
    known = {*Reason, "other"}
    for port in told.ports.values():
        samples = scrape(port)
        said = str(samples)
        assert not any(secret in said for secret in (USER, TEXT, told.session_id))
        assert {sample["reason"] for sample in samples.get("tideline_improvement_left_out_sessions_total", ())} <= known
        assert max(map(len, samples.values())) < 500


async def test_failures_are_counted_under_their_status_and_unknown_methods_under_none(
    mongo_uri: str, database_name: str
) -> None:
    async with serving(mongo_uri, database_name) as (service, port):
        sessions = session_service_pb2_grpc.SessionServiceStub(service)
        before = await asyncio.to_thread(scrape, port)
        for request in ("nobody", ""):
            with pytest.raises(grpc.aio.AioRpcError):
                await sessions.GetSession(session_service_pb2.GetSessionRequest(session_id=request))
        with pytest.raises(grpc.aio.AioRpcError):
            await service.unary_unary("/made.up.by/TheCaller")(b"")
        stream = sessions.StreamEvents()
        event = event_pb2.Event(event_id="e", object_id="o", event_types=["click"])
        await stream.write(session_service_pb2.StreamEventsRequest(sequence=1, session_id="s", events=[event]))
        await stream.read()
        under_way = await asyncio.to_thread(scrape, port)
        assert value(under_way, "tideline_rpc_in_flight", method="StreamEvents") == 1
        stream.cancel()

        def grown(now: Samples, **labels: str) -> float:
            name = "tideline_rpc_handled_total"
            return value(now, name, **labels) - value(before, name, **labels)

        # A scrape may come between the steps of a call's end.
        after = await until(port, lambda now: grown(now, method="StreamEvents", code="CANCELLED") > 0)

    assert value(after, "tideline_rpc_in_flight", method="StreamEvents") == 0
    assert grown(after, method="GetSession", code="NOT_FOUND") == 1
    assert grown(after, method="GetSession", code="INVALID_ARGUMENT") == 1
    assert grown(after, method="unknown", code="UNIMPLEMENTED") == 1
    assert grown(after, method="StreamEvents", code="CANCELLED") == 1
    assert not any("TheCaller" in str(sample) for sample in after["tideline_rpc_handled_total"])


async def test_what_waits_shows_how_long_it_does(mongo_uri: str, database_name: str) -> None:
    async with serving(mongo_uri, database_name) as (service, port):
        assert value(await asyncio.to_thread(scrape, port), "tideline_clickstream_oldest_pending_seconds") == 0
        sessions = session_service_pb2_grpc.SessionServiceStub(service)
        session = session_pb2.Session(session_id="s", user_id="u")
        await sessions.CreateSession(session_service_pb2.CreateSessionRequest(session=session))
        await BatchServiceStub(service).UseSessionForImprovement(UseSessionForImprovementRequest(session_id="s"))
        waiting = await asyncio.to_thread(scrape, port)
        assert value(waiting, "tideline_clickstream_pending_users") == 1
        lease = FeedbackServiceStub(service).LeaseFeedback(LeaseFeedbackRequest(owner="w"))
        async for _ in lease:
            pass
        held = await until(port, lambda samples: value(samples, "tideline_clickstream_oldest_lease_seconds") > 0)
        assert value(held, "tideline_clickstream_leased_users") == 1
        assert value(held, "tideline_clickstream_oldest_pending_seconds") > 0


async def test_what_is_asked_of_the_database_for_gauges_comes_from_indexes(
    mongo_uri: str, database_name: str, mongo_client: MongoClient[dict[str, Any]]
) -> None:
    asked = ("user_leases", "sessions_for_improvement", "rollup_state")
    database = mongo_client[database_name]
    async with serving(mongo_uri, database_name) as (_, port):
        await until(port, lambda samples: "tideline_clickstream_rollup_lag_seconds" in samples)
        database.command("profile", 2)
        await asyncio.to_thread(scrape, port)
        database.command("profile", 0)
        plans = {
            (operation["ns"].partition(".")[2], operation["planSummary"].split()[0])
            for operation in database["system.profile"].find({"planSummary": {"$exists": True}})
            if operation["ns"].partition(".")[2] in asked
        }
    assert {collection for collection, _ in plans} == set(asked)
    assert {plan for _, plan in plans} <= {"IXSCAN", "COUNT_SCAN", "IDHACK"}
