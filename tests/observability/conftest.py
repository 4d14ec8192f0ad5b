"""Both services as processes that tell of themselves in every way, after a search, a click and a run."""

from __future__ import annotations

import asyncio
import urllib.request
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.client import Client
from deploy.local.processes import free_port
from deploy.local.stack import Stack
from deploy.local.world import World
from tests.observability.collector import Collector
from tideline.clickstream.v1 import batch_service_pb2, event_pb2, session_service_pb2
from tideline.improvement.v1 import improvement_service_pb2, search_service_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pymongo import MongoClient

    Samples = dict[str, list[Mapping[str, str]]]

USER = "zoë-4711"
TEXT = "a very private question"
SEARCH, EVENT, RUN = (f"{digit * 32}" for digit in "abc")
"""The traces that the client makes its calls in."""
CLIENT_SPAN = "d" * 16


@dataclass
class Told:
    """What the services have told."""

    stack: Stack
    collector: Collector
    ports: dict[str, int]
    """Where their metrics are, by service."""
    session_id: str = ""


@pytest.fixture(scope="session")
def told(
    mongo_uri: str, mongo_client: MongoClient[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Told]:
    database = f"test_{uuid.uuid4().hex[:12]}"
    ports = {"clickstream": free_port(), "improvement": free_port()}
    listens = {service: {"METRICS_LISTEN": f"127.0.0.1:{port}"} for service, port in ports.items()}
    stack = Stack(
        tmp_path_factory.mktemp("told"),
        mongo_uri=mongo_uri,
        database=database,
        clickstream_settings=listens["clickstream"],
        improvement_settings=listens["improvement"],
    )
    with Collector() as collector:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
            environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
            stack.start()
        try:
            told = Told(stack, collector, ports)
            told.session_id = asyncio.run(use(stack))
            yield told
        finally:
            stack.stop()
    for name in mongo_client.list_database_names():
        if name.startswith(database):
            mongo_client.drop_database(name)


async def use(stack: Stack) -> str:
    """Search, click and learn, each in a trace of its own; returns the session."""
    items = np.eye(4, 8, dtype=np.float32) + 0.3
    world = World(
        items=[{"object_id": f"item {number}", "title": f"Item {number}"} for number in range(4)],
        queries=[],
        users=[],
        item_vectors=items / np.linalg.norm(items, axis=1, keepdims=True),
        query_vectors=items,
        simulated=True,
    )
    async with Client(stack.clickstream.address, stack.improvement.address) as client:
        await client.create_collection("told", world)
        search = search_service_pb2.SearchRequest(
            collection="told",
            # Like the first item and not the same, which there would be nothing to learn about.
            query_vector=(world.item_vectors[0] + 0.1 * world.item_vectors[1]).tolist(),
            text=TEXT,
            user_id=USER,
            record_session=search_service_pb2.RecordSession(),
        )
        found = await client.searches.Search(search, metadata=within(SEARCH))
        click = event_pb2.Event(event_id="e1", object_id=found.results[2].object_id, event_types=["click"])
        await client.sessions.PushEvents(
            session_service_pb2.PushEventsRequest(session_id=found.session_id, events=[click]), metadata=within(EVENT)
        )
        use_it = batch_service_pb2.UseSessionForImprovementRequest(session_id=found.session_id)
        await client.batches.UseSessionForImprovement(use_it)
        run = (
            await client.improvement.RunImprovement(
                improvement_service_pb2.RunImprovementRequest(), metadata=within(RUN)
            )
        ).run
        watch = improvement_service_pb2.WatchRunRequest(run_id=run.run_id)
        states = [state.run.state async for state in client.improvement.WatchRun(watch)]
        assert states[-1] == improvement_service_pb2.RUN_STATE_SUCCEEDED
        # One that finds the user's copies in Milvus, and one that has them in memory.
        await client.searches.Search(search)
        await client.searches.Search(search)
        event = session_service_pb2.StreamEventsRequest(sequence=1, session_id=found.session_id, events=[click])
        async for _ in client.sessions.StreamEvents(iter([event])):
            pass
    return str(found.session_id)


def within(trace_id: str) -> tuple[tuple[str, str], ...]:
    """Metadata of a call that is part of a trace."""
    return (("traceparent", f"00-{trace_id}-{CLIENT_SPAN}-01"),)


def scrape(port: int) -> Samples:
    """Return the label sets of each sample name that is exported, with its value under ""."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        samples: Samples = {}
        for family in text_string_to_metric_families(answer.read().decode()):
            # What has labels is there before it has samples.
            ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
            samples |= {family.name + end: [] for end in ends}
            for sample in family.samples:
                samples.setdefault(sample.name, []).append({**sample.labels, "": str(sample.value)})
        return samples


@pytest.fixture
def milvus_path(tmp_path: Path) -> str:
    """A Milvus of the test's own, which nobody has started."""
    return str(tmp_path / "vectors.db")
