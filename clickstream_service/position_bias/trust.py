"""Trust bias: people click what they see near the top more readily, relevant or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from clickstream_service.position_bias.arrays import Floats


@dataclass(frozen=True, slots=True)
class TrustBias:
    """P(click | examined, relevant) and P(click | examined, not relevant), by rank from 1 on, [R] each.

    With theta_k the examination and gamma the relevance of a result (Agarwal et al., "Addressing Trust Bias for
    Unbiased Learning-to-Rank", WWW 2019; Vardasbi, Oosterhuis, de Rijke, "When Inverse Propensity Scoring does not
    Work", CIKM 2020):

        P(click at k) = theta_k (eps+_k gamma + eps-_k (1 - gamma)) = alpha_k gamma + beta_k
        alpha_k = theta_k (eps+_k - eps-_k),  beta_k = theta_k eps-_k

    Clicks identify alpha and beta at most up to gamma's scale and origin, never theta and trust apart: these two curves
    have to come from elsewhere (eye tracking, a randomised experiment, judgements). Ranks beyond the last value take
    it. Raises ValueError unless 0 <= eps-_k < eps+_k <= 1 at every rank.
    """

    click_if_relevant: tuple[float, ...]
    click_if_irrelevant: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.click_if_relevant or len(self.click_if_relevant) != len(self.click_if_irrelevant):
            raise ValueError("trust needs as many values for relevant as for irrelevant results, at least one")
        for relevant, irrelevant in zip(self.click_if_relevant, self.click_if_irrelevant, strict=True):
            if not 0 <= irrelevant < relevant <= 1:
                raise ValueError("trust needs 0 <= click_if_irrelevant < click_if_relevant <= 1 at every rank")

    def at(self, ranks: int) -> tuple[Floats, Floats]:
        """Return (eps+ - eps-, eps-), [R] each."""
        index = np.minimum(np.arange(ranks), len(self.click_if_relevant) - 1)
        irrelevant = np.array(self.click_if_irrelevant)[index]
        return np.array(self.click_if_relevant)[index] - irrelevant, irrelevant


def affine_relevance(clicked: ArrayLike, rank: ArrayLike, examination: ArrayLike, trust: TrustBias) -> Floats:
    """Return (click - beta_k) / alpha_k [N] of impressions at `rank` [N] (from 1): its mean is the relevance.

    `examination` [R] by rank. The weight of a click under trust bias in place of 1 / theta_k, whose mean is
    eps-_k + (eps+_k - eps-_k) gamma instead of gamma (Vardasbi et al. 2020, eq. 13). Values lie outside 0..1.
    """
    theta = np.asarray(examination, np.float64)
    index = np.asarray(rank, np.int64) - 1
    slope, offset = trust.at(len(theta))
    relevance: Floats = (np.asarray(clicked, np.float64) - (theta * offset)[index]) / (theta * slope)[index]
    return relevance
