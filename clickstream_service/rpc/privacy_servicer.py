"""`PrivacyService`: unpack, one call, pack."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from clickstream_service.rpc import convert_batches, convert_interactions
from clickstream_service.rpc.chunks import chunks
from clickstream_service.rpc.convert_privacy import receipt_to_pb
from tideline.clickstream.v1 import privacy_service_pb2 as pb
from tideline.clickstream.v1.privacy_service_pb2_grpc import PrivacyServiceServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from clickstream_service.privacy import Erasures, PersonalData
    from clickstream_service.strengths import StrengthVersions

    Context = grpc.aio.ServicerContext[Any, Any]

TO_ANSWER_S: Final = 0.25
"""How much of the caller's time is left to say how things stand."""


class PrivacyServicer(PrivacyServiceServicer):
    """Answers calls of `PrivacyService`."""

    def __init__(self, erasures: Erasures, data: PersonalData, strengths: StrengthVersions) -> None:
        self._erasures = erasures
        self._data = data
        self._strengths = strengths

    async def EraseUser(self, request: pb.EraseUserRequest, context: Context) -> pb.EraseUserResponse:
        left = context.time_remaining()
        erasure = await self._erasures.erase(request.user_id, None if left is None else left - TO_ANSWER_S)
        return pb.EraseUserResponse(receipt=receipt_to_pb(erasure))

    async def ExportUser(self, request: pb.ExportUserRequest, context: Context) -> AsyncIterator[pb.ExportUserResponse]:
        strengths = await self._strengths.current()
        async with aclosing(self._data.sessions(request.user_id)) as sessions:
            async for some, _ in chunks(sessions, lambda session: session.nbytes):
                answer = pb.ExportUserResponse()
                convert_batches.fill_sessions(answer.sessions, some, strengths)
                yield answer
        async with aclosing(self._data.interactions(request.user_id)) as interactions:
            async for alone, _ in chunks(interactions, lambda interaction: interaction.nbytes_recorded):
                yield pb.ExportUserResponse(interactions=map(convert_interactions.interaction_to_pb, alone))
