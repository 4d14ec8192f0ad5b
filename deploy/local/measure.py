"""How good a ranking is, and how sure a mean is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

TOP = 10


def ndcg(found: Sequence[int], relevant: AbstractSet[int], top: int = TOP) -> float:
    """NDCG of the first `top` of `found` with relevance 0 or 1 (Jarvelin and Kekalainen, 2002).

    DCG = sum over ranks r of relevant results of 1 / log2(r + 1);  NDCG = DCG / DCG of the best possible ranking
    """
    discounts = 1 / np.log2(np.arange(2, top + 2))
    gained = sum(discounts[place] for place, item in enumerate(found[:top]) if item in relevant)
    return float(gained / discounts[: len(relevant)].sum())


@dataclass(frozen=True)
class Estimate:
    """A mean over users and the interval that holds it with 95 % confidence."""

    mean: float
    low: float
    high: float


def bootstrap(by_user: Sequence[float], rounds: int = 2000) -> Estimate:
    """The mean of one number a user, with a percentile interval from drawing users with replacement (Efron, 1979)."""
    values = np.asarray(by_user, dtype=np.float64)
    draws = np.random.default_rng(0).integers(0, len(values), (rounds, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))
