"""The prior on the curve, 1 / rank^eta and a walk around it, and what the data make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from clickstream_service.position_bias.arrays import Floats
    from clickstream_service.position_bias.curve import Curve
    from clickstream_service.position_bias.intervention import Harvest

ETA, ETA_SD = 1.0, 0.75
"""1/rank is what eye tracking and experiments mostly find; 0 (no bias) to 2 are within reach."""

_ANY_ETA_SD = 3.0
"""Where there are data they choose the slope: no pull towards a slope that they do not show."""

TAU = 0.25
"""The usual size of departures from a power law, per square root of log rank: the scale of a half-Cauchy prior."""

_TAUS = np.geomspace(0.01, 2.0, 16)
_REFITS = 20


@dataclass(frozen=True, slots=True)
class Shrunk:
    """A curve under the prior: the estimate of log theta [R-1] of ranks 2..R, and what its draws need."""

    curve: Curve
    log_examination: Floats
    weight: Floats
    gains: tuple[Floats, ...]

    def draws(self, count: int, rng: np.random.Generator) -> Floats:
        """Draw what log theta may be [count, R-1].

        Each draw redraws the groups of sessions (a score bootstrap, Kline & Santos 2012) and the prior's own curve, and
        solves again (Matheron's rule): its spread holds the noise of the clicks and what shrinking may have hidden,
        which is why intervals of it cover on average over the ranks (Nychka 1988).
        """
        noisy = self.curve.log_examination + bootstrap(self.curve, count, rng)
        chosen = rng.choice(len(_TAUS), size=count, p=self.weight)
        drawn = np.empty_like(noisy)
        for index, gain in enumerate(self.gains):
            rows = np.flatnonzero(chosen == index)
            prior = prior_draws(noisy.shape[1], len(rows), rng, tau=float(_TAUS[index]), eta_sd=_ANY_ETA_SD)
            drawn[rows] = prior + (noisy[rows] - prior) @ gain.T
        return drawn


def shrink(curve: Curve) -> Shrunk:
    """Shrink towards a power law as far as the curve leaves room.

    log theta_k = -eta log k + W(log k),  eta ~ N(1, 3^2),  W a Brownian motion with Var W(x) = tau^2 x: a power law
    from which neighbouring ranks depart together, with W(log 1) = 0 where the curve is tied to 1. tau has a half-Cauchy
    prior and is learnt from the curve (empirical Bayes, averaged over a grid by marginal likelihood), so where the
    clicks follow no power law nothing is pulled towards one. Ranks without data continue from their neighbours.
    """
    x = np.log(np.arange(2, len(curve.log_examination) + 2))
    line, walk = np.outer(x, x), np.minimum.outer(x, x)
    mean = -ETA * x
    centred = curve.log_examination - mean
    gains, evidence = [], np.empty(len(_TAUS))
    for index, tau in enumerate(_TAUS):
        spread = _ANY_ETA_SD**2 * line + tau**2 * walk
        total = spread + curve.covariance
        _, size = np.linalg.slogdet(total)
        solved = np.linalg.solve(total, np.column_stack([centred, spread]))
        gains.append(solved[:, 1:].T)
        # tau * density: the grid is even in log tau.
        evidence[index] = -0.5 * (size + centred @ solved[:, 0]) + np.log(tau / (1 + (tau / TAU) ** 2))
    weight = np.exp(evidence - evidence.max())
    weight /= weight.sum()
    estimates = [gain @ centred for gain in gains]
    return Shrunk(curve, mean + weight @ np.array(estimates), weight, tuple(gains))


def shrink_harvest(harvest: Harvest) -> Shrunk:
    """Shrink what was harvested, seen from where it ends up.

    A rank with hardly any clicks has a likelihood far from normal at its own maximum. So the equations are
    linearised again at the shrunk curve until it stands still (Laplace's approximation at the mode).
    """
    shrunk = shrink(harvest.curve())
    for _ in range(_REFITS):
        again = shrink(harvest.at(shrunk.log_examination).curve())
        moved = np.abs(again.log_examination - shrunk.log_examination).max(initial=0)
        shrunk = again
        if moved < 1e-3:
            break
    return shrunk


def shrink_slope(curve: Curve | None, ranks: int, draws: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return -eta log k [R-1] with eta as far as the curve tells it, and draws [B, R-1]: for where data are too few.

    eta | data is normal: its prior times the likelihood of the curve along the power law. Without a curve eta is 1.
    The draws depart from the power law by the usual tau.
    """
    x = np.log(np.arange(2, ranks + 1))
    precision, pull = ETA_SD**-2, ETA * ETA_SD**-2
    if curve is not None:
        solved = np.linalg.solve(
            curve.covariance + TAU**2 * np.minimum.outer(x, x), np.column_stack([x, curve.log_examination])
        )
        precision += float(x @ solved[:, 0])
        pull -= float(x @ solved[:, 1])
    eta = pull / precision
    return -eta * x, prior_draws(len(x), draws, rng, tau=TAU, eta=eta, eta_sd=precision**-0.5)


def prior_draws(
    count: int, draws: int, rng: np.random.Generator, *, tau: float, eta: float = ETA, eta_sd: float = ETA_SD
) -> Floats:
    """Draw log theta [B, count] of ranks 2..count+1 from the prior."""
    x = np.log(np.arange(1, count + 2))
    walk = rng.standard_normal((draws, count)) * np.sqrt(np.diff(x))
    slopes = rng.normal(eta, eta_sd, size=(draws, 1))
    return -slopes * x[1:] + tau * np.cumsum(walk, axis=1)


def bootstrap(curve: Curve, draws: int, rng: np.random.Generator) -> Floats:
    """Return by how much log theta moves [B, R-1] when whole groups of sessions are drawn with replacement."""
    groups, count = curve.influence.shape
    weights = rng.multinomial(groups, np.full(groups, 1 / groups), size=draws) - 1
    moved = weights @ (curve.influence - curve.influence.mean(0)) * np.sqrt(groups / (groups - 1))
    hidden = rng.multivariate_normal(np.zeros(count), curve.slack, size=draws, method="eigh")
    return np.asarray(moved + hidden)
