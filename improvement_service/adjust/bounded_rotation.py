"""The default adjuster: a closed form that can never leave the neighbourhood of the original vector."""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from improvement_service.adjust.chunks import Entries, choose_device, cut
from improvement_service.adjust.evidence import Metric
from improvement_service.adjust.registry import Parameter, resolve
from improvement_service.adjust.similarity import (
    dot,
    finite_or,
    inverse_lengths,
    length,
    shares,
    similarities,
    sum_of_row,
    weighted_sum_of_row,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from improvement_service.adjust.chunks import Chunk, Doubles
    from improvement_service.adjust.evidence import Aggregation, Evidence, Floats, Indices

NOISE = 1e-6
"""Below this share of the evidence its tangent is rounding, and has no direction."""

HEAVIEST = 1e12


class BoundedRotation:
    """Turns each vector towards the queries it answered and away from those it was passed over for, in one step.

    For a row with direction v and unit queries q, w of positives and theta of negatives, each times the part's share:

        e = sum w q - gamma sum theta q;  t = e - (e.v) v;  phi = min(eta |t|, rho);  v' = cos(phi) v + sin(phi) t/|t|

    COSINE and DOT: the length of the row is kept. EUCLID: a straight step of min(eta |e|, rho |x|) along
    e = sum w (q - x) - gamma sum theta (q - x), with q as it is. In no metric does a row move beyond the direction
    (EUCLID: the weighted mean) that its evidence points to, so more clicks on a perfect match cannot spoil it.

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
        weight = _within_float32(entries.item, weight)
        moved = evidence.vectors.astype(np.float32)
        for chunk in cut(evidence, entries, weight, self.device):
            moved[chunk.rows] = finite_or(self._move(chunk), chunk.x).cpu().numpy()
        return moved

    def _move(self, chunk: Chunk) -> Tensor:
        weight, at = chunk.weight[chunk.entry], chunk.of_pairs(chunk.x)
        if chunk.has_parts:
            near = similarities(self.metric, at, chunk.q)
            weight = weight * shares(self.aggregation, chunk, near, self.temperature)
        if self.metric is Metric.EUCLID:
            towards = weighted_sum_of_row(chunk, weight, chunk.q - at)
            return step_towards(chunk.x, towards, sum_of_row(chunk, weight), self.eta, self.rho)
        # A query without a direction weighs nothing: its weight is multiplied by 0.
        towards = weighted_sum_of_row(chunk, weight * inverse_lengths(chunk.q), chunk.q)
        return rotate_towards(chunk.x, towards, self.eta, self.rho)


def _within_float32(item: Indices, weight: Doubles) -> Doubles:
    """Scale the weights of items that have more than `HEAVIEST` in all: they turn as far as they may either way."""
    _, inverse = np.unique(item, return_inverse=True)
    total = np.bincount(inverse, weights=np.abs(weight))[inverse]
    return weight / np.maximum(total / HEAVIEST, 1.0)


def rotate_towards(x: Tensor, e: Tensor, eta: float, rho: float) -> Tensor:
    """Turn each row of `x` [N, D] towards its evidence `e` [N, D] by at most `rho` radians, keeping its length.

    v = x/|x|;  t = e - (e.v) v;  phi = min(eta |t|, rho, angle(v, e));  x' = |x| (cos(phi) v + sin(phi) t/|t|)
    """
    inverse = inverse_lengths(x)
    along = dot(e, x) * inverse
    t = torch.addcmul(e, x, (along * inverse)[:, None], value=-1)
    # Once more: the first pass leaves rounding of the size of e, which is much of t when t is small.
    t.addcmul_(x, (dot(t, x) * inverse.square())[:, None], value=-1)
    norm = length(t)
    phi = torch.minimum(eta * norm, torch.atan2(norm, along)).clamp(max=rho)
    turns = (norm > NOISE * along.abs()) & (inverse > 0)
    phi = torch.where(turns, phi, 0.0)
    sideways = torch.where(turns, phi.sin() / (norm * inverse), 0.0)
    return (phi.cos()[:, None] * x).addcmul_(t, sideways[:, None])


def step_towards(x: Tensor, e: Tensor, pull: Tensor, eta: float, rho: float) -> Tensor:
    """Move each row of `x` [N, D] along its evidence `e` [N, D] by at most rho |x|.

    `pull` [N] is the sum of the weights in `e`: where it is positive, x + e / pull is the weighted mean of the queries.
    """
    norm = length(e)[:, None]
    limit = rho * length(x)[:, None]
    mean = torch.where(pull[:, None] > 0, norm / pull[:, None], torch.inf)
    step = torch.minimum(torch.minimum(eta * norm, mean), limit)
    return torch.where(norm > 0, x + step / norm * e, x)
