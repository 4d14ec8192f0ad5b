"""`TrainingService`: unpack, one call, pack."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from clickstream_service.rpc import convert_training as convert
from clickstream_service.rpc.chunks import chunks
from tideline.clickstream.v1 import training_service_pb2 as pb
from tideline.clickstream.v1.training_service_pb2_grpc import TrainingServiceServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from clickstream_service.domain.training import TrainingPair
    from clickstream_service.training.exports import Training
    from clickstream_service.training.snapshots import Snapshots

    Context = grpc.aio.ServicerContext[Any, Any]


class TrainingServicer(TrainingServiceServicer):
    """Answers calls of `TrainingService`."""

    def __init__(self, training: Training, snapshots: Snapshots) -> None:
        self._training = training
        self._snapshots = snapshots

    async def ExportTrainingPairs(
        self, request: pb.ExportTrainingPairsRequest, context: Context
    ) -> AsyncIterator[pb.ExportTrainingPairsResponse]:
        exported = self._training.pairs(
            convert.choice_from_pb(request), convert.snapshot_id_from_pb(request), convert.split_from_pb(request)
        )
        async with aclosing(exported) as pairs:
            async for chunk, _ in chunks(pairs, _pair_bytes):
                yield pb.ExportTrainingPairsResponse(pairs=map(convert.pair_to_pb, chunk))

    async def ExportFineTuningInputs(
        self, request: pb.ExportFineTuningInputsRequest, context: Context
    ) -> AsyncIterator[pb.ExportFineTuningInputsResponse]:
        exported = self._training.inputs(convert.selection_from_pb(request), request.strengths_version)
        async with aclosing(exported) as inputs:
            async for chunk, _ in chunks(inputs, lambda each: each.nbytes):
                yield pb.ExportFineTuningInputsResponse(inputs=map(convert.input_to_pb, chunk))

    async def CreateTrainingSnapshot(
        self, request: pb.CreateTrainingSnapshotRequest, context: Context
    ) -> pb.CreateTrainingSnapshotResponse:
        snapshot = await self._snapshots.create(convert.choice_from_pb(request), convert.meta_from_pb(request))
        return pb.CreateTrainingSnapshotResponse(snapshot=convert.snapshot_to_pb(snapshot))

    async def GetTrainingSnapshot(
        self, request: pb.GetTrainingSnapshotRequest, context: Context
    ) -> pb.GetTrainingSnapshotResponse:
        snapshot = await self._snapshots.get(request.snapshot_id)
        return pb.GetTrainingSnapshotResponse(snapshot=convert.snapshot_to_pb(snapshot))


def _pair_bytes(pair: TrainingPair) -> int:
    # A query that is no text is as good as never long.
    return pair.nbytes + (len(pair.query) if isinstance(pair.query, str) else 1_000)
