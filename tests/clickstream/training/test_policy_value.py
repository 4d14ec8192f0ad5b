"""What another policy would have earned, over the RPC; the mathematics have tests of their own in `position_bias`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from tests.benchmarks import open_bandit
from tests.clickstream.calls import Refusal, refusal
from tideline.clickstream.v1 import propensity_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tideline.clickstream.v1.propensity_service_pb2_grpc import PropensityServiceAsyncStub

OPEN_BANDIT = open_bandit.folder()

# Weights .5, 2, 1, 1.5.
DECISIONS = [(1.0, 0.5, 0.25), (1.0, 0.25, 0.5), (0.0, 0.25, 0.25), (1.0, 0.5, 0.75)]


def decision(row: Sequence[float], predicted: float | None = None) -> pb.LoggedDecision:
    reward, logging, target = row
    return pb.LoggedDecision(
        reward=reward,
        logging_propensity=logging,
        target_propensity=target,
        predicted_reward=predicted,
        predicted_target_reward=predicted,
    )


async def value(
    propensities: PropensityServiceAsyncStub, *groups: Sequence[pb.LoggedDecision], **fields: Any
) -> pb.EstimatePolicyValueResponse:
    return await propensities.EstimatePolicyValue(
        pb.EstimatePolicyValueRequest(decisions=group, **fields) for group in groups
    )


async def test_estimates_are_those_worked_out_by_hand(propensities: PropensityServiceAsyncStub) -> None:
    found = await value(propensities, [decision(row, 0.5) for row in DECISIONS])
    assert found.decision_count == 4
    assert (found.logged.value, found.ips.value, found.snips.value) == pytest.approx((3 / 4, 4 / 4, 4 / 5))
    assert found.doubly_robust.value == pytest.approx((0.75 + 1.5 + 0 + 1.25) / 4)
    assert found.ips.high - found.ips.value == pytest.approx(1.959964 * (2.5 / 3) ** 0.5 / 2)
    assert found.ips.value - found.ips.low == pytest.approx(found.ips.high - found.ips.value)
    assert (found.effective_sample_size, found.mean_weight, found.largest_weight) == pytest.approx((25 / 7.5, 1.25, 2))


async def test_messages_add_up_and_the_first_says_how(propensities: PropensityServiceAsyncStub) -> None:
    rows = [decision(row) for row in DECISIONS]
    whole = await value(propensities, rows, clip=1, confidence=0.5)
    assert await value(propensities, rows[:1], rows[1:], clip=1, confidence=0.5) == whole
    assert whole.ips.value == pytest.approx(2.5 / 4)
    assert whole.clipped == 0.5
    assert not whole.HasField("doubly_robust")
    wide = await value(propensities, rows, clip=1)
    assert wide.ips.high > whole.ips.high


async def test_a_policy_that_would_do_none_of_it_has_no_self_normalised_value(
    propensities: PropensityServiceAsyncStub,
) -> None:
    found = await value(propensities, [decision((1.0, 0.5, 0.0))] * 2)
    assert (found.ips.value, found.mean_weight, found.HasField("snips")) == (0, 0, False)


@pytest.mark.parametrize(
    ("groups", "fields", "field"),
    [
        ([], {}, "decisions"),
        ([[decision(DECISIONS[0])]], {}, "decisions"),
        ([[]], {}, "decisions"),
        ([[decision((1.0, 0.0, 0.5))]], {}, "decisions[0].logging_propensity"),
        ([[decision((1.0, 0.5, 1.5))]], {}, "decisions[0].target_propensity"),
        ([[decision((float("nan"), 0.5, 0.5))]], {}, "decisions[0].reward"),
        ([[decision(DECISIONS[0], 0.5), decision(DECISIONS[1])]], {}, "decisions[1].predicted_reward"),
        (
            [[decision(DECISIONS[0])], [decision(DECISIONS[1], 0.5)]],
            {},
            "decisions[0].predicted_reward",
        ),
        ([[decision(DECISIONS[0])]], {"clip": -1}, "clip"),
        ([[decision(DECISIONS[0])]], {"confidence": 1}, "confidence"),
    ],
)
async def test_what_cannot_be_judged_is_refused_naming_the_field(
    propensities: PropensityServiceAsyncStub,
    groups: Sequence[Sequence[pb.LoggedDecision]],
    fields: dict[str, float],
    field: str,
) -> None:
    refused = await refusal(value(propensities, *groups, **fields))
    assert refused == Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field)


@pytest.mark.skipif(OPEN_BANDIT is None, reason="the Open Bandit sample is not on this machine")
async def test_what_a_policy_earned_is_found_in_what_another_one_logged(
    propensities: PropensityServiceAsyncStub,
) -> None:
    assert OPEN_BANDIT is not None
    logged, target = open_bandit.load("random", OPEN_BANDIT), open_bandit.load("bts", OPEN_BANDIT)
    policy = open_bandit.policy_of(target)
    rows = np.stack([logged.click, logged.propensity, policy[logged.item, logged.position]], axis=1).tolist()
    found = await value(
        propensities, *([decision(row) for row in rows[start : start + 2_000]] for start in range(0, len(rows), 2_000))
    )
    assert found.decision_count == len(rows)
    assert found.ips.low < target.click.mean() < found.ips.high
    assert found.snips.low < target.click.mean() < found.snips.high
