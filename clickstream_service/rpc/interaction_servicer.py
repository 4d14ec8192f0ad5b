"""`InteractionService`: unpack, one call, pack."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from clickstream_service.rpc import convert_interactions as convert
from clickstream_service.rpc import cursors, outcomes
from clickstream_service.rpc.chunks import chunks
from tideline.clickstream.v1 import interaction_service_pb2 as pb
from tideline.clickstream.v1.interaction_service_pb2_grpc import InteractionServiceServicer
from tideline.clickstream.v1.session_pb2 import SORT_ORDER_ASCENDING
from tideline.rpc.structs import timedelta_from_pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    import grpc

    from clickstream_service.interactions import Interactions
    from clickstream_service.strengths import StrengthVersions

    Context = grpc.aio.ServicerContext[Any, Any]

INTERACTIONS: Final = 100


class InteractionServicer(InteractionServiceServicer):
    """Answers calls of `InteractionService`."""

    def __init__(self, interactions: Interactions, strengths: StrengthVersions, now: Callable[[], datetime]) -> None:
        self._interactions = interactions
        self._strengths = strengths
        self._now = now

    async def RecordInteraction(
        self, request: pb.RecordInteractionRequest, context: Context
    ) -> pb.RecordInteractionResponse:
        recorded, duplicate = await self._interactions.record(
            convert.interaction_from_pb(request.interaction, self._now()), historical=request.historical
        )
        return pb.RecordInteractionResponse(interaction=convert.interaction_to_pb(recorded), duplicate=duplicate)

    async def BatchRecordInteractions(
        self, request: pb.BatchRecordInteractionsRequest, context: Context
    ) -> pb.BatchRecordInteractionsResponse:
        now = self._now()
        interactions = [convert.checked_interaction_from_pb(message, now) for message in request.interactions]
        results = await self._interactions.record_many(interactions, historical=request.historical)
        return pb.BatchRecordInteractionsResponse(
            outcomes=outcomes.of_interactions(request.interactions, interactions, results)
        )

    async def GetInteraction(self, request: pb.GetInteractionRequest, context: Context) -> pb.GetInteractionResponse:
        found = await self._interactions.get(request.key.session_id, request.key.interaction_id)
        return pb.GetInteractionResponse(interaction=convert.interaction_to_pb(found))

    async def ListInteractions(
        self, request: pb.ListInteractionsRequest, context: Context
    ) -> pb.ListInteractionsResponse:
        page = await self._interactions.page(
            convert.choice_from_pb(request),
            cursors.after_place(request),
            request.page_size or INTERACTIONS,
            newest_first=request.order != SORT_ORDER_ASCENDING,
        )
        return pb.ListInteractionsResponse(
            interactions=map(convert.interaction_to_pb, page.interactions),
            next_page_token=cursors.token_behind(request, page.interactions[-1]) if page.more else "",
        )

    async def ExportInteractions(
        self, request: pb.ExportInteractionsRequest, context: Context
    ) -> AsyncIterator[pb.ExportInteractionsResponse]:
        async with aclosing(self._interactions.export(convert.choice_from_pb(request))) as interactions:
            async for chunk, _ in chunks(interactions, lambda interaction: interaction.nbytes_recorded):
                yield pb.ExportInteractionsResponse(interactions=map(convert.interaction_to_pb, chunk))

    async def DeleteInteraction(
        self, request: pb.DeleteInteractionRequest, context: Context
    ) -> pb.DeleteInteractionResponse:
        deleted = await self._interactions.delete(request.key.session_id, request.key.interaction_id)
        return pb.DeleteInteractionResponse(deleted=deleted)

    async def GetStrengths(self, request: pb.GetStrengthsRequest, context: Context) -> pb.GetStrengthsResponse:
        strengths = await self._strengths.get(request.version)
        return pb.GetStrengthsResponse(strengths=convert.strengths_to_pb(strengths))

    async def UpdateStrengths(self, request: pb.UpdateStrengthsRequest, context: Context) -> pb.UpdateStrengthsResponse:
        strengths = await self._strengths.update(
            convert.strengths_from_pb(request.strengths),
            timedelta_from_pb(request.long_view_threshold) if request.HasField("long_view_threshold") else None,
            request.expected_version,
        )
        return pb.UpdateStrengthsResponse(strengths=convert.strengths_to_pb(strengths))
