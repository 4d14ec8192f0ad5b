"""What a policy or ranker would earn, from what another one logged: IPS, self-normalised IPS, doubly robust."""

from __future__ import annotations

from math import inf, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from clickstream_service.domain.policy_value import PolicyValue, Value

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from clickstream_service.position_bias.arrays import Floats


class OffPolicyValue:
    """Adds up logged impressions in any order and any pieces; what it keeps does not grow.

    With reward r, w = min(pi(a | x) / p, clip), pi the target's and p the logging policy's propensity of the logged
    action a at its position, q a prediction of the reward, and q(pi) = sum_a pi(a | x) q(x, a):

        IPS    V = mean(w r)                          Horvitz & Thompson 1952; Strehl et al., NeurIPS 2010
        SNIPS  V = sum(w r) / sum(w)                  Swaminathan & Joachims, NeurIPS 2015
        DR     V = mean(q(pi) + w (r - q(a)))         Dudik, Langford, Li, ICML 2011
        clip   min(., clip)                           Ionides 2008; Bottou et al., JMLR 2013

    Intervals are normal, V -+ z s / sqrt(n): s^2 is the sample variance of the terms; for SNIPS, a ratio, that of
    w (r - V) n / sum(w) (delta method). Impressions count as independent: give one summed row a session where they are
    not. Few rewards under large weights make any of them too narrow: see `effective_sample_size` and `largest_weight`.

    q must not have been learnt from the impressions it is applied to: `RewardModel` keeps two halves apart.
    """

    def __init__(self, clip: float = inf) -> None:
        if not clip > 0:
            raise ValueError("clip is above 0")
        self._clip = clip
        self._n = self._clipped = 0
        self._largest = 0.0
        self._predicted: bool | None = None
        # Sums of r, r^2, w, w^2, w r, w^2 r, w^2 r^2, d, d^2 with d the term of DR.
        self._sums = np.zeros(9)

    def add(
        self,
        reward: ArrayLike,
        logging: ArrayLike,
        target: ArrayLike,
        *,
        predicted: ArrayLike | None = None,
        predicted_target: ArrayLike | None = None,
    ) -> None:
        """Add impressions [N]: reward, p(a | x), pi(a | x); for DR also q(x, a) and q(pi).

        Raises ValueError unless 0 < p <= 1 and 0 <= pi <= 1, or when predictions are given for some pieces only.
        """
        r, p, pi = (np.atleast_1d(np.asarray(values, np.float64)) for values in (reward, logging, target))
        if not (np.all((p > 0) & (p <= 1)) and np.all((pi >= 0) & (pi <= 1)) and np.all(np.isfinite(r))):
            raise ValueError("propensities are probabilities, above 0 where something was logged; rewards are finite")
        if (predicted is None) != (predicted_target is None):
            raise ValueError("doubly robust needs both predictions")
        if len(r) and self._predicted not in {None, predicted is not None}:
            raise ValueError("predictions are for all impressions or for none")
        full = pi / p
        w = np.minimum(full, self._clip)
        d = np.zeros_like(r)
        if predicted is not None and predicted_target is not None:
            d = np.asarray(predicted_target, np.float64) + w * (r - np.asarray(predicted, np.float64))
        if len(r):
            self._predicted = predicted is not None
        self._n += len(r)
        self._clipped += int(np.count_nonzero(full > self._clip))
        self._largest = max(self._largest, float(full.max(initial=0)))
        terms = (r, r * r, w, w * w, w * r, w * w * r, (w * r) ** 2, d, d * d)
        self._sums += [float(term.sum()) for term in terms]

    def value(self, level: float = 0.95) -> PolicyValue:
        """Return the estimates with intervals at `level`. Raises ValueError with fewer than two impressions."""
        n = self._n
        if n < 2:
            raise ValueError("an off-policy value needs at least two impressions")
        r, rr, w, ww, wr, wwr, wwrr, d, dd = self._sums.tolist()
        z = NormalDist().inv_cdf((1 + level) / 2)

        def of(total: float, squares: float) -> Value:
            mean = total / n
            half = z * sqrt(max(squares / n - mean * mean, 0.0) / (n - 1))
            return Value(mean, mean - half, mean + half)

        snips = None
        if w > 0:
            ratio = wr / w
            squares = max(wwrr - 2 * ratio * wwr + ratio * ratio * ww, 0.0)
            half = z * sqrt(squares * n / (n - 1)) / w
            snips = Value(ratio, ratio - half, ratio + half)
        return PolicyValue(
            impressions=n,
            logged=of(r, rr),
            ips=of(wr, wwrr),
            snips=snips,
            doubly_robust=of(d, dd) if self._predicted else None,
            effective_sample_size=w * w / ww if ww > 0 else 0.0,
            mean_weight=w / n,
            clipped=self._clipped / n,
            largest_weight=self._largest,
        )


class RewardModel:
    """Mean reward by action and position for the doubly robust estimator, each half predicted from the other.

    q(a, k) = (sum r + m q) / (n + m), q the mean of all and m `strength`. `half` [N] (0 or 1) has to be
    independent of reward, such as a hash of the session. Two passes: `add` all, then `predict` all.
    """

    def __init__(self, actions: int, positions: int, strength: float = 20.0) -> None:
        self._strength = strength
        self._sums: Floats = np.zeros((2, 2, actions, positions))

    def add(self, action: ArrayLike, position: ArrayLike, reward: ArrayLike, half: ArrayLike) -> None:
        """Learn from impressions [N]: action and position indices from 0, reward, half."""
        index = tuple(np.asarray(values, np.int64) for values in (half, action, position))
        np.add.at(self._sums[0], index, 1.0)
        np.add.at(self._sums[1], index, np.asarray(reward, np.float64))

    def predict(
        self, action: ArrayLike, position: ArrayLike, target: ArrayLike, half: ArrayLike
    ) -> tuple[Floats, Floats]:
        """Return q(a, k) [N] and q(pi) = sum_a pi(a | x, k) q(a, k) [N]; `target` [N, actions] is pi(. | x, k)."""
        shown, earned = self._sums[:, ::-1]
        totals = shown.sum((1, 2), keepdims=True)
        overall = earned.sum((1, 2), keepdims=True) / np.maximum(totals, 1.0)
        q = (earned + self._strength * overall) / (shown + self._strength)
        at, halves = np.asarray(position, np.int64), np.asarray(half, np.int64)
        each = q[halves, :, at]
        predicted: Floats = each[np.arange(len(each)), np.asarray(action, np.int64)]
        return predicted, np.asarray((each * np.asarray(target, np.float64)).sum(1))
