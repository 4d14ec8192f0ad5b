"""`PropensityService`: unpack, one call, pack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from clickstream_service.policy_value import policy_value
from clickstream_service.rpc import convert_propensities as convert
from clickstream_service.rpc.convert_policy_value import decisions_from_pb, policy_value_to_pb
from tideline.clickstream.v1 import propensity_service_pb2 as pb
from tideline.clickstream.v1.propensity_service_pb2_grpc import PropensityServiceServicer
from tideline.rpc import paging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from clickstream_service.propensities import PropensityVersions

    Context = grpc.aio.ServicerContext[Any, Any]

VERSIONS: Final = 100


class PropensityServicer(PropensityServiceServicer):
    """Answers calls of `PropensityService`."""

    def __init__(self, propensities: PropensityVersions) -> None:
        self._propensities = propensities

    async def EstimatePropensities(
        self, request: pb.EstimatePropensitiesRequest, context: Context
    ) -> pb.EstimatePropensitiesResponse:
        estimated = await self._propensities.estimate(
            convert.selection_from_pb(request),
            request.max_rank,
            convert.method_from_pb(request),
            convert.trust_from_pb(request),
        )
        return pb.EstimatePropensitiesResponse(propensities=convert.propensities_to_pb(estimated))

    async def GetPropensities(self, request: pb.GetPropensitiesRequest, context: Context) -> pb.GetPropensitiesResponse:
        found = await self._propensities.get(request.version, request.surface, request.device)
        return pb.GetPropensitiesResponse(propensities=convert.propensities_to_pb(found))

    async def ListPropensities(
        self, request: pb.ListPropensitiesRequest, context: Context
    ) -> pb.ListPropensitiesResponse:
        cursor = paging.cursor(request, 1)
        found, more = await self._propensities.page(
            None if cursor is None else cursor[0], request.page_size or VERSIONS
        )
        return pb.ListPropensitiesResponse(
            propensities=map(convert.propensities_to_pb, found),
            next_page_token=paging.token(request, [found[-1].version]) if more else "",
        )

    async def EstimatePolicyValue(
        self, requests: AsyncIterator[pb.EstimatePolicyValueRequest], context: Context
    ) -> pb.EstimatePolicyValueResponse:
        return policy_value_to_pb(await policy_value(decisions_from_pb(request) async for request in requests))
