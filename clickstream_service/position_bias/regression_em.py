"""The position-based model by expectation maximisation, where the same (query, object) rarely moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from clickstream_service.position_bias.arrays import totals
from clickstream_service.position_bias.counts import GROUPS
from clickstream_service.position_bias.curve import Curve
from clickstream_service.position_bias.intervention import pseudo

if TYPE_CHECKING:
    from clickstream_service.position_bias.arrays import Floats, Indices
    from clickstream_service.position_bias.cells import Cells

_BLOCKS = 16
_STRENGTH, _WEAKEST, _STRONGEST, _REFITS = 20.0, 1.0, 1e4, 3
_ROUNDS, _TOLERANCE = 400, 1e-4
_LONGEST = 32.0


def regression_em(cells: Cells) -> Curve:
    """Estimate examination relative to rank 1 by the regression-EM of Wang et al. (WSDM 2018).

    P(click) = theta_k gamma_p. The E-step takes for each impression without a click

        P(examined) = theta (1 - gamma) / (1 - theta gamma),   P(relevant) = (1 - theta) gamma / (1 - theta gamma),

    the M-step sets theta_k to the mean of the first, and gamma by a regression of the second. Where Wang et al. regress
    on features, the feature here is the object: gamma_p = (sum of relevant + m mu) / (impressions + m), mu the mean of
    the object over all queries. m says how far to trust it: mu (1 - mu) / Var(gamma within an object) - 1, by moments.
    theta_1 is held at 1, which fixes the scale. Steps are lengthened by SQUAREM (Varadhan & Roland 2008).

    What clicks identify: nothing but theta_k gamma_p. theta is told from gamma only where the same relevance is met
    at several ranks. For pairs at several ranks this is given. For the rest it rests on the object: right when an
    object is equally relevant, on average, at the ranks where it was shown; when a ranker puts objects high just for
    the queries they suit, the curve comes out too steep, by as much as relevance falls within an object, and the
    interval does not know it. One fixed ranking per object identifies nothing. Harvesting has no such bias and is
    preferred when it has data.

    Intervals: the EM is run again without each of 16 blocks of sessions (grouped jackknife), starting from the answer.
    """
    whole = cells.whole()
    data = _Data.of(whole, whole.impressions, whole.clicks)
    fitted, strength = _State.start(data), _STRENGTH
    for _ in range(_REFITS):
        fitted = _solve(data, fitted, strength)
        strength = _likeness(data, fitted)
    fitted = _solve(data, fitted, strength)
    key = whole.pair * whole.ranks + whole.rank
    at = np.searchsorted(key, cells.pair * cells.ranks + cells.rank)
    block = cells.group * _BLOCKS // GROUPS
    influence = np.empty((_BLOCKS, cells.ranks - 1))
    for left_out in range(_BLOCKS):
        there = block == left_out
        impressions = whole.impressions - totals(at[there], cells.impressions[there], len(key))
        clicks = whole.clicks - totals(at[there], cells.clicks[there], len(key))
        again = _solve(_Data.of(whole, impressions, clicks), fitted, strength)
        influence[left_out] = (np.log(fitted.theta) - np.log(again.theta))[1:]
    return _describe(whole, fitted, influence)


@dataclass(frozen=True, slots=True)
class _Data:
    pair: Indices
    rank: Indices
    item: Indices
    impressions: Floats
    clicks: Floats
    of_rank: Floats
    of_pair: Floats
    of_item: Floats

    @classmethod
    def of(cls, cells: Cells, impressions: Floats, clicks: Floats) -> Self:
        of_pair = totals(cells.pair, impressions, cells.pairs)
        of_rank = totals(cells.rank, impressions, cells.ranks)
        of_item = np.zeros(int(cells.item.max(initial=-1)) + 1)
        np.add.at(of_item, cells.item, of_pair)
        return cls(cells.pair, cells.rank, cells.item, impressions, clicks, of_rank, of_pair, of_item)


@dataclass(frozen=True, slots=True)
class _State:
    """theta [R], gamma [P], mu [objects]."""

    theta: Floats
    gamma: Floats
    mu: Floats

    @classmethod
    def start(cls, data: _Data) -> Self:
        theta = 1 / np.arange(1, len(data.of_rank) + 1)
        rate = data.clicks.sum() / max(float((data.impressions * theta[data.rank]).sum()), 1.0)
        rate = float(np.clip(rate, 1e-4, 0.5))
        return cls(theta, np.full(len(data.of_pair), rate), np.full(len(data.of_item), rate))

    def flat(self) -> Floats:
        values = np.clip(np.concatenate([self.theta[1:], self.gamma, self.mu]), 1e-12, 1 - 1e-9)
        return np.asarray(np.log(values) - np.log1p(-values))

    def shaped(self, flat: Floats) -> _State:
        values = 1 / (1 + np.exp(-np.clip(flat, -30, 30)))
        ranks, pairs = len(self.theta) - 1, len(self.gamma)
        theta, gamma, mu = np.split(values, [ranks, ranks + pairs])
        return _State(np.concatenate([[1.0], theta]), gamma, mu)


def _step(data: _Data, state: _State, strength: float) -> _State:
    theta, gamma = state.theta[data.rank], state.gamma[data.pair]
    missed = (data.impressions - data.clicks) / np.maximum(1 - theta * gamma, 1e-12)
    examined = data.clicks + missed * theta * (1 - gamma)
    relevant = data.clicks + missed * gamma * (1 - theta)
    # One impression of the prior's curve keeps ranks that nobody saw from 0/0.
    prior = 1 / np.arange(1, len(state.theta) + 1)
    new_theta = (totals(data.rank, examined, len(prior)) + prior) / (data.of_rank + 1)
    new_theta[0] = 1.0
    of_pair = totals(data.pair, relevant, len(data.of_pair))
    overall = (of_pair.sum() + 1e-3) / (data.of_pair.sum() + 1)
    mu = (totals(data.item, of_pair, len(data.of_item)) + overall) / (data.of_item + 1)
    new_gamma = (of_pair + strength * mu[data.item]) / (data.of_pair + strength)
    return _State(new_theta, new_gamma, mu)


def _likeness(data: _Data, state: _State) -> float:
    """Return m: how alike the pairs of an object are, beyond the noise of their clicks."""
    theta = state.theta[data.rank]
    examined = totals(data.pair, data.impressions * theta, len(data.of_pair))
    clicks = totals(data.pair, data.clicks, len(data.of_pair))
    mu = state.mu[data.item]
    rate = theta * mu[data.pair]
    noise = totals(data.pair, data.impressions * rate * (1 - rate), len(data.of_pair))
    spread = float((((clicks - mu * examined) ** 2 - noise) / examined).sum())
    if spread <= 0:
        return _STRONGEST
    return float(np.clip((mu * (1 - mu) * examined).sum() / spread - 1, _WEAKEST, _STRONGEST))


def _solve(data: _Data, state: _State, strength: float) -> _State:
    """Step until log theta stands still, three steps a round."""
    for _ in range(_ROUNDS):
        one = _step(data, state, strength)
        two = _step(data, one, strength)
        x, y, z = state.flat(), one.flat(), two.flat()
        first, bend = y - x, z - 2 * y + x
        length = float(np.linalg.norm(first) / max(float(np.linalg.norm(bend)), 1e-12))
        length = min(max(length, 1.0), _LONGEST)
        new = _step(data, state.shaped(x + 2 * length * first + length**2 * bend), strength)
        moved = np.abs(np.log(new.theta) - np.log(state.theta)).max()
        state = new
        if moved < _TOLERANCE:
            break
    return state


def _describe(whole: Cells, fitted: _State, influence: Floats) -> Curve:
    """Add what the model expects: the information on log theta that objects at several ranks hold (see `harvest`)."""
    ranks = whole.ranks
    information = np.zeros((ranks, ranks))
    held = whole.by_item()
    for cells, pairs in held.blocks():
        weight = held.dense(cells, pairs, held.impressions, held.rank, ranks) * fitted.theta
        clicks = held.dense(cells, pairs, held.clicks, held.rank, ranks).sum(1)
        share = weight / weight.sum(1, keepdims=True)
        information += np.diag(clicks @ share) - (share * clicks[:, None]).T @ share
    hidden = pseudo(np.log(fitted.theta))[1][1:, 1:]
    inverse = np.linalg.inv(information[1:, 1:] + hidden)
    slack = inverse @ hidden @ inverse
    expected, found = np.diag(inverse - slack), (influence**2).sum(0)
    known = np.diag(information)[1:] >= 1
    dispersion = float(found[known].sum() / expected[known].sum()) if known.any() else 1.0
    covariance = max(dispersion, 1.0) * (inverse - slack) + slack
    # A theta that stands at 1 in every block looks sure of it: it is as uncertain as its clicks.
    stuck = fitted.theta[1:] > 1 - 1e-3
    slack += np.diag(np.where(stuck, np.maximum(expected - found, 0.0), 0.0))
    return Curve(
        log_examination=np.log(fitted.theta[1:]),
        covariance=np.asarray(covariance, np.float64),
        influence=influence,
        slack=slack,
        dispersion=dispersion,
    )
