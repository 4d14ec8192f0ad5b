"""Logged decisions and what a policy is worth, between messages of the contract and the mathematics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clickstream_service.domain.policy_value import Decisions
from tideline.clickstream.v1 import propensity_service_pb2 as pb
from tideline.errors import InvalidField

if TYPE_CHECKING:
    from clickstream_service.domain.policy_value import PolicyValue, Value


def decisions_from_pb(request: pb.EstimatePolicyValueRequest) -> Decisions:
    """Return the decisions of a message; raises `InvalidField` when predictions are there for some of them only."""
    decisions = request.decisions
    predicted = decisions[0].HasField("predicted_reward")
    for place, each in enumerate(decisions):
        for field in ("predicted_reward", "predicted_target_reward"):
            if each.HasField(field) != predicted:
                raise InvalidField(
                    "both predictions, for all decisions or for none", field=f"decisions[{place}].{field}"
                )
    return Decisions(
        reward=[each.reward for each in decisions],
        logging=[each.logging_propensity for each in decisions],
        target=[each.target_propensity for each in decisions],
        predicted=[each.predicted_reward for each in decisions] if predicted else None,
        predicted_target=[each.predicted_target_reward for each in decisions] if predicted else None,
        clip=request.clip,
        confidence=request.confidence,
    )


def policy_value_to_pb(found: PolicyValue) -> pb.EstimatePolicyValueResponse:
    return pb.EstimatePolicyValueResponse(
        decision_count=found.impressions,
        logged=_value_to_pb(found.logged),
        ips=_value_to_pb(found.ips),
        snips=None if found.snips is None else _value_to_pb(found.snips),
        doubly_robust=None if found.doubly_robust is None else _value_to_pb(found.doubly_robust),
        effective_sample_size=found.effective_sample_size,
        mean_weight=found.mean_weight,
        clipped=found.clipped,
        largest_weight=found.largest_weight,
    )


def _value_to_pb(found: Value) -> pb.PolicyValueEstimate:
    return pb.PolicyValueEstimate(value=found.value, low=found.low, high=found.high)
