"""Intervention harvesting: the same (query, object) shown at several ranks is an experiment already run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from clickstream_service.position_bias.arrays import totals
from clickstream_service.position_bias.counts import GROUPS
from clickstream_service.position_bias.curve import PSEUDO_CLICKS, Curve
from tideline.errors import InvalidField

if TYPE_CHECKING:
    from clickstream_service.position_bias.arrays import Floats
    from clickstream_service.position_bias.cells import Cells
    from clickstream_service.position_bias.trust import TrustBias

_STEPS, _TOLERANCE, _FAR, _LONGEST = 100, 1e-9, 12.0, 3.0


def harvest(cells: Cells, trust: TrustBias | None = None) -> Harvest:
    """Estimate examination relative to rank 1 from pairs shown at several ranks; pairs at one rank say nothing.

    The position-based model gives E[C_pk] = N_pk theta_k gamma_p for pair p at rank k. Each pair's relevance drops out
    of

        sum_p [C_pk - s_pk C_p] = 0 for each k,   s_pk = N_pk theta_k / sum_j N_pj theta_j

    ("of the clicks of a pair, the share at rank k is that of its impressions times theta_k"): all contrasts of click
    rates that Agarwal et al., "Estimating Position Bias without Intrusive Interventions" (WSDM 2019), harvest by
    AllPairs, each weighted by its inverse variance when clicks are rare; a conditional logit (Chamberlain 1980). Linear
    in clicks, so unbiased for any relevance and any rankers, however few impressions a pair has; concave in log theta,
    so Newton's steps find the one solution. Where pairs only ever swap with a neighbour it is their adjacent chain.

    With `trust`, E[C_pk] = N_pk (a_k gamma_p + b_k), a = theta (eps+ - eps-), b = theta eps-: gamma_p is
    estimated from sum_k C_pk - N_pk b_k (Vardasbi et al. 2020), and the same equations are solved.

    Cells of every group go in. Memory: a few [8192, R] blocks. Raises `InvalidField` when the clicks cannot have come
    from the given trust parameters.
    """
    held = cells.contrasted()
    return Harvest.solved(held, held.whole(), trust)


@dataclass(frozen=True, slots=True)
class Harvest:
    """The solution log theta `beta` [R], and what it was solved for.

    `cells` by group and `whole` hold the same contrasted pairs; `spread` = eps+ - eps-, `offset` = eps- [R];
    `background` is the chance per impression of a click whether examined or not, which is taken off the clicks first.
    """

    cells: Cells
    whole: Cells
    spread: Floats
    offset: Floats
    background: float
    beta: Floats

    @classmethod
    def solved(
        cls,
        cells: Cells,
        whole: Cells,
        trust: TrustBias | None = None,
        background: float = 0.0,
        beta: Floats | None = None,
    ) -> Self:
        """Solve the equations from `beta`, or 1/rank."""
        spread, offset = trust.at(cells.ranks) if trust else (np.ones(cells.ranks), np.zeros(cells.ranks))
        beta = -np.log(np.arange(1, cells.ranks + 1)) if beta is None else beta.copy()
        for _ in range(_STEPS):
            harvest = cls(cells, whole, spread, offset, background, beta)
            score, jacobian, _ = harvest.equations()
            step = np.clip(np.linalg.solve(jacobian[1:, 1:], score[1:]), -1.0, 1.0)
            beta = beta.copy()
            beta[1:] = np.clip(beta[1:] + step, -_FAR, _FAR)
            if np.abs(step).max(initial=0) < _TOLERANCE:
                return harvest
        raise InvalidField("these clicks cannot have come from this trust bias", field="trust_bias")

    def at(self, log_examination: Floats) -> Harvest:
        """Return the same equations at log theta [R-1] of ranks 2..R, which need not solve them."""
        return replace(self, beta=np.concatenate([[0.0], log_examination]))

    def curve(self) -> Curve:
        """Describe the solution, or what one of Newton's steps from `beta` makes of it."""
        score, jacobian, variance = self.equations()
        inverse = np.linalg.inv(jacobian[1:, 1:])
        hidden = pseudo(self.beta)[1][1:, 1:]
        moved = self._moved()[:, 1:]
        expected = np.diag(variance)[1:]
        counted = expected >= 1
        dispersion = float((moved**2).sum(0)[counted].sum() / expected[counted].sum()) if counted.any() else 1.0
        return Curve(
            log_examination=self.beta[1:] + np.clip(inverse @ score[1:], -_LONGEST, _LONGEST),
            covariance=inverse @ (max(dispersion, 0.1) * variance[1:, 1:] + hidden) @ inverse.T,
            influence=moved @ inverse.T,
            slack=inverse @ hidden @ inverse.T,
            dispersion=dispersion,
        )

    def equations(self) -> tuple[Floats, Floats, Floats]:
        """Return what is left of the equations [R], minus their slope by log theta [R, R], and their variance [R, R].

        The variance is that of Poisson clicks around the fit.
        """
        ranks = self.cells.ranks
        score, jacobian, variance = np.zeros(ranks), np.zeros((ranks, ranks)), np.zeros((ranks, ranks))
        theta = np.exp(self.beta)
        for cells, pairs in self.whole.blocks():
            n, c, share, relevance = self._laid_out(cells, pairs, theta)
            fitted = n * (theta * self.spread * relevance[:, None] + theta * self.offset)
            score += (c - fitted).sum(0)
            jacobian += np.diag(fitted.sum(0)) - share.T @ fitted
            noisy = np.maximum(fitted + self.background * n, 0.0)
            across = share.T @ noisy
            variance += np.diag(noisy.sum(0)) - across - across.T + share.T @ (share * noisy.sum(1, keepdims=True))
        pull, slope = pseudo(self.beta)
        return score + pull, jacobian + slope, variance

    def _moved(self) -> Floats:
        """Return what each group adds to the equations [G, R], the change of its pairs' relevance included."""
        ranks, theta, cells = self.cells.ranks, np.exp(self.beta), self.cells
        moved = np.zeros((GROUPS, ranks))
        for (run, pairs), (whole_run, _) in zip(cells.blocks(), self.whole.blocks(), strict=True):
            _, _, share, relevance = self._laid_out(whole_run, pairs, theta)
            at, pair, group = cells.rank[run], cells.pair[run] - pairs.start, cells.group[run]
            rate = theta[at] * (self.spread[at] * relevance[pair] + self.offset[at]) + self.background
            left = cells.clicks[run] - cells.impressions[run] * rate
            moved += totals(group * ranks + at, left, GROUPS * ranks).reshape(GROUPS, ranks)
            size = pairs.stop - pairs.start
            moved -= totals(pair * GROUPS + group, left, size * GROUPS).reshape(size, GROUPS).T @ share
        return moved

    def _laid_out(self, cells: slice, pairs: slice, theta: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Return impressions, clicks less background and shares s [pairs, R], and relevance [pairs], of a run."""
        whole = self.whole
        n = whole.dense(cells, pairs, whole.impressions, whole.rank, whole.ranks)
        c = whole.dense(cells, pairs, whole.clicks, whole.rank, whole.ranks) - self.background * n
        weight = n * theta * self.spread
        total = weight.sum(1)
        return n, c, weight / total[:, None], (c - n * theta * self.offset).sum(1) / total


def pseudo(beta: Floats) -> tuple[Floats, Floats]:
    """Return the equations [R] and minus their slope [R, R] of the pseudo-clicks: one pair shown once at every rank."""
    target = 1 / np.arange(1, len(beta) + 1)
    share = np.exp(beta - beta.max())
    share /= share.sum()
    return PSEUDO_CLICKS * (target / target.sum() - share), PSEUDO_CLICKS * (np.diag(share) - np.outer(share, share))
