"""What the demo and the quality harness ask of the services, over their public RPCs and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from google.protobuf.struct_pb2 import Struct

from tideline.clickstream.v1 import (
    batch_service_pb2,
    batch_service_pb2_grpc,
    event_pb2,
    propensity_service_pb2,
    propensity_service_pb2_grpc,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
)
from tideline.improvement.v1 import (
    improvement_service_pb2,
    improvement_service_pb2_grpc,
    object_pb2,
    object_service_pb2,
    object_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
)
from tideline.rpc.channels import NOTHING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

    from deploy.local.world import Vectors, World
    from tideline.rpc.channels import Access

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 16
"""How many calls are under way at a time."""
A_MESSAGE = 100
"""How many objects or sessions one message carries."""


@dataclass(frozen=True)
class Recorded:
    """A search as it was shown, and the places (from 0) that were clicked."""

    session: session_pb2.Session
    clicked: Sequence[int]


class Client:
    """Both services; use it as an async context manager."""

    def __init__(self, clickstream_address: str, improvement_address: str, access: Access = NOTHING) -> None:
        self.channels = [access.aio_channel(address) for address in (clickstream_address, improvement_address)]
        clickstream, improvement = self.channels
        self.sessions = session_service_pb2_grpc.SessionServiceStub(clickstream)
        self.batches = batch_service_pb2_grpc.BatchServiceStub(clickstream)
        self.propensities = propensity_service_pb2_grpc.PropensityServiceStub(clickstream)
        self.objects = object_service_pb2_grpc.ObjectServiceStub(improvement)
        self.searches = search_service_pb2_grpc.SearchServiceStub(improvement)
        self.improvement = improvement_service_pb2_grpc.ImprovementServiceStub(improvement)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(channel.close() for channel in self.channels))

    async def create_collection(self, name: str, world: World, adjuster: str = "") -> None:
        """Create a COSINE collection with an adjuster at its defaults and put all items of the world into it."""
        collection = object_pb2.Collection(
            name=name,
            dimension=world.item_vectors.shape[1],
            metric=object_pb2.METRIC_COSINE,
            adjuster=object_pb2.Adjuster(name=adjuster),
        )
        await self.objects.CreateCollection(object_service_pb2.CreateCollectionRequest(collection=collection))
        await self.objects.UpsertObjects(_upserts(name, world))

    async def search(
        self, collection: str, vector: Vectors, *, user_id: str = "", limit: int
    ) -> Sequence[search_service_pb2.ScoredObject]:
        """The first results of a search; everybody's without a user."""
        request = search_service_pb2.SearchRequest(
            collection=collection, query_vector=vector.tolist(), user_id=user_id, limit=limit
        )
        return (await self.searches.Search(request)).results

    async def record(self, recorded: Sequence[Recorded], advance: Callable[[int], None]) -> None:
        """Record sessions and their clicks, and submit all of them; `advance` is told how many are done with."""
        for start in range(0, len(recorded), A_MESSAGE):
            some = recorded[start : start + A_MESSAGE]
            request = session_service_pb2.BatchCreateSessionsRequest(sessions=[one.session for one in some])
            created = await self.sessions.BatchCreateSessions(request)
            refused = [outcome for outcome in created.outcomes if outcome.reason]
            if refused:
                raise RuntimeError(f"{len(refused)} sessions were refused, the first one: {refused[0]}")
            await self._click([one for one in some if one.clicked])
            await each(self._submit, [one.session.session_id for one in some])
            advance(len(some))

    async def _click(self, recorded: Sequence[Recorded]) -> None:
        async for answer in self.sessions.StreamEvents(_clicks(recorded)):
            for outcome in answer.outcomes:
                if outcome.status != event_pb2.EVENT_STATUS_ACCEPTED:
                    raise RuntimeError(f"an event was refused: {outcome}")

    async def _submit(self, session_id: str) -> None:
        request = batch_service_pb2.UseSessionForImprovementRequest(session_id=session_id)
        await self.batches.UseSessionForImprovement(request)

    async def estimate_examination(self, surface: str, max_rank: int) -> propensity_service_pb2.Propensities:
        """Estimate examination by rank from what was recorded on a surface; learning goes by it from then on."""
        request = propensity_service_pb2.EstimatePropensitiesRequest(surface=surface, max_rank=max_rank)
        return (await self.propensities.EstimatePropensities(request)).propensities

    async def run(self, watch: Callable[[improvement_service_pb2.Run], None]) -> improvement_service_pb2.Run:
        """Run improvement now and wait until it is through; raises `RuntimeError` when it failed."""
        run = (await self.improvement.RunImprovement(improvement_service_pb2.RunImprovementRequest())).run
        async for state in self.improvement.WatchRun(improvement_service_pb2.WatchRunRequest(run_id=run.run_id)):
            run = state.run
            watch(run)
        if run.state != improvement_service_pb2.RUN_STATE_SUCCEEDED:
            raise RuntimeError(f"the run did not succeed: {run}")
        return run


async def each(call: Callable[[T], Awaitable[R]], arguments: Iterable[T]) -> list[R]:
    """The results of `call` on every argument, in order, a few calls at a time."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(argument: T) -> R:
        async with turn:
            return await call(argument)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(argument)) for argument in arguments]
    return [task.result() for task in tasks]


async def _upserts(collection: str, world: World) -> AsyncIterator[object_service_pb2.UpsertObjectsRequest]:
    for start in range(0, len(world.items), A_MESSAGE):
        objects = [
            object_pb2.Object(
                object_id=item["object_id"],
                parts=[object_pb2.Part(vector=vector.tolist())],
                payload=_struct({"title": item["title"]}),
            )
            for item, vector in zip(
                world.items[start : start + A_MESSAGE], world.item_vectors[start : start + A_MESSAGE], strict=True
            )
        ]
        yield object_service_pb2.UpsertObjectsRequest(collection=collection, objects=objects)


async def _clicks(recorded: Sequence[Recorded]) -> AsyncIterator[session_service_pb2.StreamEventsRequest]:
    for sequence, one in enumerate(recorded, start=1):
        events = [
            event_pb2.Event(
                event_id=f"click-{place}",
                object_id=one.session.search_results[place].object_id,
                event_types=["click"],
                position=place,
            )
            for place in one.clicked
        ]
        yield session_service_pb2.StreamEventsRequest(
            sequence=sequence, session_id=one.session.session_id, events=events
        )


def _struct(content: Mapping[str, str]) -> Struct:
    struct = Struct()
    struct.update(content)
    return struct
