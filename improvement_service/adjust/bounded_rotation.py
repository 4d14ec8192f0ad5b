"""The default adjuster: a closed form that can never leave the neighbourhood of the original vector."""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from improvement_service.adjust.batch import Batch, choose_device
from improvement_service.adjust.entries import Entries
from improvement_service.adjust.registry import Parameter, resolve
from improvement_service.adjust.similarity import (
    directions,
    inverse_roots,
    length,
    products,
    shares,
    sum_of_row,
    weighted_sum,
    weighted_sum_of_row,
)
from improvement_service.domain.index import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from improvement_service.adjust.chunks import Chunk
    from improvement_service.adjust.entries import Doubles
    from improvement_service.adjust.evidence import Evidence, Floats, Indices
    from improvement_service.domain.index import Aggregation

HEAVIEST = 1e12
"""An item's weights are scaled down to this in all: float32 can square what they make, and no turn grows with more."""

STEEPEST = 5.0
"""eta is at most this over the sum of an item's |weights|: what remains when heavy weights cancel is no direction."""


class BoundedRotation:
    """Turns each vector towards the queries it answered and away from those it was passed over for, in one step.

    For a row with direction v and unit queries q, w of positives and theta of negatives, each times the part's share:

        e = sum w q - gamma sum theta q;  t = e - (e.v) v;  phi = min(eta |t|, rho);  v' = cos(phi) v + sin(phi) t/|t|

    COSINE and DOT: the length of the row is kept. EUCLID: a straight step of min(eta |e|, rho |x|) along
    e = sum w (q - x) - gamma sum theta (q - x), with q as it is. No row moves beyond what its evidence points to (phi
    is at most |t|/|e|; in EUCLID the step ends at the weighted mean): many clicks on a near match cannot spoil it.

    The step along the gradient of Rocchio's relevance feedback (1971), on the sphere, with a trust region.

    Parameters: `eta` (0.15) radians for one unit of evidence; `gamma` (1) what a passed-over result counts for;
    `rho` (0.15) the largest turn in radians, for EUCLID the largest step relative to the length of the row;
    `temperature` (0.1) in units of the similarity, how sharply the nearest part takes an object's evidence (MIN).
    """

    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "eta": Parameter(0.15, above=True),
        "gamma": Parameter(1.0),
        "rho": Parameter(0.15, above=True, most=pi / 2),
        "temperature": Parameter(0.1, above=True),
    }

    def __init__(
        self, metric: Metric, aggregation: Aggregation, parameters: Mapping[str, float], device: str | None = None
    ) -> None:
        values = resolve(self.PARAMETERS, parameters)
        self.metric = metric
        self.aggregation = aggregation
        self.eta, self.gamma = values["eta"], values["gamma"]
        self.rho, self.temperature = values["rho"], values["temperature"]
        self.device = choose_device(device)

    @torch.inference_mode()
    def adjust(self, evidence: Evidence) -> Floats:
        """Return the new rows, [R, D] float32; rows without evidence are byte-identical."""
        entries = Entries.of(evidence)
        weight = np.where(entries.positive, entries.weight, -self.gamma * entries.weight)
        batch = Batch(evidence, entries, self.device)
        lengths = length(batch.queries).double()
        if self.metric is not Metric.EUCLID:
            batch.queries.copy_(directions(batch.queries))
        for chunk in batch.chunks(_bounded(entries.item, weight)):
            self._move(chunk, lengths)
            batch.keep_finite(chunk)
        return batch.result()

    def _move(self, chunk: Chunk, lengths: Tensor) -> None:
        """Move the rows of a chunk; `lengths` [S] are those of the queries before they were scaled to 1."""
        if self.metric is Metric.EUCLID:
            # The difference first: |x|^2 - 2 x.q + |q|^2 loses what is near.
            apart = chunk.queries.index_select(0, chunk.session) - chunk.x.index_select(0, chunk.row)
            share = shares(self.aggregation, chunk, -length(apart).double(), self.temperature)
            weight = chunk.weight * share
            towards, pull = weighted_sum_of_row(chunk, weight, apart), sum_of_row(chunk, weight)
            step_towards(chunk.x, towards, pull, self._rate(chunk, weight), self.rho)
            return
        near, squares = products(chunk)
        inverse = inverse_roots(squares)
        along = near * inverse.index_select(0, chunk.row)
        similarity = along if self.metric is Metric.COSINE else near * lengths.index_select(0, chunk.session)
        weight = shares(self.aggregation, chunk, similarity, self.temperature).mul_(chunk.weight)
        ahead = sum_of_row(chunk, along.mul_(weight))
        across = weighted_sum(chunk, weight, -ahead * inverse)
        rotate_towards(chunk.x, inverse, across, ahead, self._rate(chunk, weight), self.rho)

    def _rate(self, chunk: Chunk, weight: Tensor) -> Tensor:
        """Return eta [R] for the rows, given the weights of the pairs [P]."""
        return (STEEPEST / sum_of_row(chunk, weight.abs())).clamp(max=self.eta)


def rotate_towards(x: Tensor, inverse: Tensor, t: Tensor, ahead: Tensor, eta: Tensor, rho: float) -> None:  # noqa: PLR0917
    """Turn each row of `x` [N, D] along what its evidence e has across it by at most `rho` radians, keeping its length.

    `inverse` [N] is 1/|x|, or 0 for rows without a direction, which stay; `ahead` [N] is e.v with v = x/|x|; `t` [N, D]
    is e - (e.v) v; `eta` [N].

        phi = min(eta |t|, rho, |t|/|e|);  x' = |x| (cos(phi) v + sin(phi) t/|t|)
    """
    size = length(t).double()
    turns = (size > 0) & (inverse > 0)
    phi = torch.minimum(eta * size, size / torch.hypot(size, ahead)).clamp(max=rho)
    a = torch.where(turns, phi.cos(), 1.0).to(x.dtype)
    b = torch.where(turns, phi.sin() / (size * inverse), 0.0).to(x.dtype)
    x.mul_(a[:, None]).addcmul_(t, b[:, None])


def step_towards(x: Tensor, e: Tensor, pull: Tensor, eta: Tensor, rho: float) -> None:
    """Move each row of `x` [N, D] along its evidence `e` [N, D] by min(eta |e|, rho |x|).

    `eta` [N]; `pull` [N] is the sum of the weights in `e`: where it is positive a step ends at x + e / pull at most,
    the weighted mean of the queries.
    """
    norm = length(e).double()
    mean = torch.where(pull > 0, norm / pull, torch.inf)
    step = torch.minimum(torch.minimum(eta * norm, mean), rho * length(x))
    x.addcmul_(e, torch.where(norm > 0, step / norm, 0.0).to(x.dtype)[:, None])


def _bounded(item: Indices, weight: Doubles) -> Doubles:
    """Scale down the weights [E] of each item to at most `HEAVIEST` in all."""
    _, inverse = np.unique(item, return_inverse=True)
    total = np.bincount(inverse, weights=np.abs(weight))[inverse]
    return weight / np.maximum(total / HEAVIEST, 1.0)
