"""What a policy or ranker would earn, estimated from what another one logged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Decisions:
    """Some logged decisions, [N] each: reward, p(a | x), pi(a | x) and, for all of them or none, q(x, a) and q(pi).

    Of many, the first ones say the clip and the confidence for all; 0 for none, and for the usual one.
    """

    reward: Sequence[float]
    logging: Sequence[float]
    target: Sequence[float]
    predicted: Sequence[float] | None
    predicted_target: Sequence[float] | None
    clip: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Value:
    """The mean reward an impression would have under the target policy, with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """The estimates and what they rest on.

    `doubly_robust` is absent where no predictions were given, `snips` where all weights are 0.
    `effective_sample_size` = (sum w)^2 / sum w^2 (Kish), `mean_weight` is near 1 when the logged propensities are right
    and cover the target; `clipped` is the share of weights that the clip lowered, each of which biases the values of a
    reward that is never negative down, `largest_weight` before it.
    """

    impressions: int
    logged: Value
    ips: Value
    snips: Value | None
    doubly_robust: Value | None
    effective_sample_size: float
    mean_weight: float
    clipped: float
    largest_weight: float
