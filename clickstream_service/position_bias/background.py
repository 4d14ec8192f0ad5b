"""Clicks that fall on any rank alike, examined or not: how many there are, and the curve without them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from clickstream_service.position_bias.arrays import totals
from clickstream_service.position_bias.counts import GROUPS
from clickstream_service.position_bias.intervention import Harvest

if TYPE_CHECKING:
    from clickstream_service.position_bias.arrays import Floats, Indices
    from clickstream_service.position_bias.cells import Cells
    from clickstream_service.position_bias.curve import Curve

SIGNIFICANCE = 3.0
"""So many standard errors of doubt before clicks are taken for background: correcting for nothing costs precision."""

_STEPS, _NUDGE = 20, 1e-4


def clean(plain: Harvest) -> tuple[Curve, float]:
    """Return the curve of `plain` and the background nu, the chance per impression of a click whether examined or not.

    E[C_pk] = N_pk (theta_k gamma_p + nu). Such noise flattens the curve, and more so for results that are hardly
    relevant: from the same ranks, poor results seem to show a flatter curve than good ones. So nu is where the
    residuals

        sum_pk z_pk (C_pk - N_pk nu) = 0,   z_pk = a_pk - sum_j s_pj a_pj,   a_pk = 1 / (theta_k gamma~_p + c)

    no longer depend on relevance, solved together with the equations of `harvest`; s is as there, so relevance drops
    out. a is the weight that Poisson likelihood gives, with gamma~ of pair p from the half of the sessions that is not
    being weighed, so that the equation stays unbiased however few clicks a pair has (cross-fitting, Angrist & Krueger
    1995). nu = 0 unless it is `SIGNIFICANCE` standard errors above it; its uncertainty is in the curve's.

    What it cannot do: with no slope, or no spread of relevance, noise is not seen (and a flat curve is not
    harmed by it). Where nu is several times theta_k gamma, the clicks at k hardly say anything, and the estimate leans
    on the ranks above and the prior.
    """
    held, whole = plain.cells, plain.whole
    probe = _Probe.of(held, whole, plain.beta)
    if probe is None:
        return plain.curve(), 0.0
    at = _Place.of(probe, plain)
    if at.left < SIGNIFICANCE * float(np.sqrt((at.moved**2).sum())):
        return plain.curve(), 0.0
    highest = 0.95 * probe.rate
    nu = 0.0
    for _ in range(_STEPS):
        new = float(np.clip(nu - at.left / at.slope, 0.0, highest))
        at = _Place.of(probe, Harvest.solved(held, whole, background=new, beta=at.harvest.beta))
        done, nu = abs(new - nu) < 1e-6 * probe.rate, new
        if done:
            break
    curve = at.harvest.curve()
    of_nu = -at.moved / at.slope
    return replace(
        curve,
        influence=curve.influence + np.outer(of_nu, at.bend),
        covariance=curve.covariance + np.outer(at.bend, at.bend) * float((of_nu**2).sum()),
    ), nu


@dataclass(frozen=True, slots=True)
class _Probe:
    """The weights a [M], fixed while nu is sought, for cells [M] whose pairs are split by half of the sessions."""

    cells: Cells
    whole: Cells
    half: Indices
    weight: Floats
    rate: float
    """The lowest click rate of a rank: background is below it."""

    @classmethod
    def of(cls, cells: Cells, whole: Cells, beta: Floats) -> Self | None:
        shown = totals(whole.rank, whole.impressions, whole.ranks)
        rates = totals(whole.rank, whole.clicks, whole.ranks)[shown > 0] / shown[shown > 0]
        rate = float(rates.min(initial=1.0))
        if rate == 0 or not cells.pairs:
            return None
        half = cells.pair * 2 + cells.group % 2
        theta = np.exp(beta)[cells.rank]
        examined = totals(half, cells.impressions * theta, 2 * cells.pairs)
        clicks = totals(half, cells.clicks, 2 * cells.pairs)
        # One click at the usual rate: a pair without clicks in the other half is not taken for worthless.
        usual = clicks.sum() / examined.sum()
        relevance = (clicks + 1) / (examined + 1 / usual)
        return cls(cells, whole, half, 1 / (theta * relevance[half ^ 1] + rate / 2), rate)

    def residuals(self, beta: Floats, background: float) -> Floats:
        """Return z (C - N nu) [M]."""
        share = self.cells.impressions * np.exp(beta)[self.cells.rank]
        halves = 2 * self.cells.pairs
        total = np.maximum(totals(self.half, share, halves), 1e-300)
        middle = totals(self.half, share * self.weight, halves) / total
        return (self.weight - middle[self.half]) * (self.cells.clicks - background * self.cells.impressions)


@dataclass(frozen=True, slots=True)
class _Place:
    """The equation at one nu: `left` of it, its total `slope`, how groups move it [G], and d log theta / d nu [R-1]."""

    harvest: Harvest
    left: float
    slope: float
    moved: Floats
    bend: Floats

    @classmethod
    def of(cls, probe: _Probe, harvest: Harvest) -> Self:
        beta, nu = harvest.beta, harvest.background
        terms = probe.residuals(beta, nu)
        left = float(terms.sum())
        by_rank = np.empty(len(beta) - 1)
        for rank in range(1, len(beta)):
            nudged = beta.copy()
            nudged[rank] += _NUDGE
            by_rank[rank - 1] = (probe.residuals(nudged, nu).sum() - left) / _NUDGE
        moved = totals(probe.cells.group, terms, GROUPS) + harvest.curve().influence @ by_rank
        step = _NUDGE * probe.rate
        further = Harvest.solved(probe.cells, probe.whole, background=nu + step, beta=beta)
        slope = (probe.residuals(further.beta, nu + step).sum() - left) / step
        return cls(harvest, left, float(slope), moved - moved.mean(), (further.beta - beta)[1:] / step)
