"""Propensities between messages of the contract and the domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clickstream_service.domain.propensity import PropensityAssumption, PropensityMethod, Trust
from clickstream_service.domain.training import Selection
from tideline.clickstream.v1 import propensity_service_pb2 as pb
from tideline.rpc.structs import datetime_from_pb, datetime_to_pb

if TYPE_CHECKING:
    from clickstream_service.domain.propensity import Propensities

_METHODS: Final = {
    PropensityMethod.INTERVENTION_HARVESTING: pb.PROPENSITY_METHOD_INTERVENTION_HARVESTING,
    PropensityMethod.REGRESSION_EM: pb.PROPENSITY_METHOD_REGRESSION_EM,
    PropensityMethod.PRIOR: pb.PROPENSITY_METHOD_PRIOR,
}

_ASSUMPTIONS: Final = {
    PropensityAssumption.NONE: pb.PROPENSITY_ASSUMPTION_UNSPECIFIED,
    PropensityAssumption.RELEVANCE_OF_OBJECT: pb.PROPENSITY_ASSUMPTION_RELEVANCE_OF_OBJECT,
    PropensityAssumption.POWER_LAW: pb.PROPENSITY_ASSUMPTION_POWER_LAW,
}


def selection_from_pb(request: pb.EstimatePropensitiesRequest) -> Selection:
    """Return which sessions to estimate from; raises `InvalidField`."""
    since, before = request.created_from, request.created_before
    return Selection(
        created_from=datetime_from_pb(since, "created_from") if request.HasField("created_from") else None,
        created_before=datetime_from_pb(before, "created_before") if request.HasField("created_before") else None,
        surface=request.surface,
        device=request.device,
    )


def method_from_pb(request: pb.EstimatePropensitiesRequest) -> PropensityMethod | None:
    """Return how to estimate; None for whichever fits the data."""
    return PropensityMethod(request.method) if request.method else None


def trust_from_pb(request: pb.EstimatePropensitiesRequest) -> Trust | None:
    if not request.HasField("trust_bias"):
        return None
    return Trust(tuple(request.trust_bias.click_if_relevant), tuple(request.trust_bias.click_if_irrelevant))


def propensities_to_pb(found: Propensities) -> pb.Propensities:
    message = pb.Propensities(
        version=found.version,
        surface=found.surface,
        device=found.device,
        ranks=[
            pb.RankPropensity(
                rank=each.rank,
                examination=each.examination,
                low=each.low,
                high=each.high,
                impressions=each.impressions,
                clicks=each.clicks,
            )
            for each in found.ranks
        ],
        method=_METHODS[found.method],
        session_count=found.session_count,
        effective_sample_size=found.effective_sample_size,
        below_floor=found.below_floor,
        trust_corrected=found.trust_corrected,
        background=found.background,
        assumption=_ASSUMPTIONS[found.assumption],
    )
    datetime_to_pb(found.created_at, message.created_at)
    return message
