"""A log in few words, and calls of TrainingService."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.clickstream.calls import create, push
from tests.clickstream.samples import a_session, an_event
from tideline.clickstream.v1 import session_pb2
from tideline.clickstream.v1 import training_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceAsyncStub
    from tideline.clickstream.v1.training_service_pb2_grpc import TrainingServiceAsyncStub

Done = str | tuple[str, str]
"""An object that was clicked, or (object, type)."""


class Log:
    """Records searches with what was done about them."""

    def __init__(self, sessions: SessionServiceAsyncStub) -> None:
        self._sessions = sessions

    async def search(
        self, session_id: str, shown: Sequence[str], done: Sequence[Done] = (), query: str = "red shoes", **fields: Any
    ) -> None:
        searched = session_pb2.SearchQuery(text=query)
        session = a_session(session_id, objects=list(shown), **{"search_query": searched, **fields})
        await create(self._sessions, session)
        await self.act(session_id, done)

    async def act(self, session_id: str, done: Sequence[Done], prefix: str = "e") -> None:
        acts = [(each, "click") if isinstance(each, str) else each for each in done]
        events = [
            an_event(f"{prefix}{number}", object_id, event_types=[event_type])
            for number, (object_id, event_type) in enumerate(acts)
        ]
        if events:
            outcomes = await push(self._sessions, session_id, events)
            assert all(not outcome.message for outcome in outcomes)


async def export(
    training: TrainingServiceAsyncStub,
    snapshot_id: str = "",
    split: pb.TrainingSplit | None = None,
    **choice: Any,
) -> list[pb.TrainingPair]:
    request = pb.ExportTrainingPairsRequest(
        choice=pb.TrainingChoice(**choice) if choice else None, snapshot_id=snapshot_id, split=split
    )
    return [pair async for part in training.ExportTrainingPairs(request) for pair in part.pairs]


async def inputs(training: TrainingServiceAsyncStub, **fields: Any) -> list[pb.FineTuningInput]:
    call = training.ExportFineTuningInputs(pb.ExportFineTuningInputsRequest(**fields))
    return [each async for part in call for each in part.inputs]


async def snapshot(training: TrainingServiceAsyncStub, **choice: Any) -> pb.TrainingSnapshot:
    request = pb.CreateTrainingSnapshotRequest(choice=pb.TrainingChoice(**choice))
    return (await training.CreateTrainingSnapshot(request)).snapshot


def found(pairs: Sequence[pb.TrainingPair]) -> dict[tuple[str, str], list[str]]:
    """Return the negatives of each (query, positive)."""
    return {(pair.query.text, pair.positive_object_id): list(pair.negative_object_ids) for pair in pairs}


def bytes_of(pairs: Sequence[pb.TrainingPair]) -> bytes:
    return b"".join(pair.SerializeToString(deterministic=True) for pair in pairs)
