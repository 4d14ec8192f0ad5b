"""The documented gradient descent, batched over any mix of sessions, with its gradient in closed form."""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch.optim.adamw import adamw

from improvement_service.adjust.batch import Batch, choose_device
from improvement_service.adjust.entries import Entries
from improvement_service.adjust.registry import Parameter, resolve
from improvement_service.adjust.similarity import (
    directions,
    dot,
    inverse_roots,
    length,
    products,
    shares,
    sum_of_entry,
    sum_of_row,
    weighted_sum,
    weighted_sum_of_row,
)
from improvement_service.domain.index import Aggregation, Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from improvement_service.adjust.chunks import Chunk
    from improvement_service.adjust.entries import Doubles
    from improvement_service.adjust.evidence import Evidence, Floats


NOISE = 1e-6
ADAMW: dict[str, Any] = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01, "amsgrad": False}
ADAMW |= {"maximize": False, "fused": True}
"""What torch.optim.AdamW takes when it is not told otherwise."""


class TorchBased:
    """Minimises, by AdamW (torch's defaults, weight decay 0.01 among them), the sum over a user's sessions of

        - (sum w S^3 / sum w over positives) + (sum theta S^3 / sum theta over negatives)

    where a side without entries is 0 and S is an item's similarity to the session's query over its parts s:

        MIN: S = sum a s with a = softmax(s / softmin_temperature), the nearest part weighs most;  AVG: S = mean s

    s is x.q/|x||q| (COSINE), x.q (DOT) or -|x - q| (EUCLID, so that a loss grows with the cube of a distance).

    AdamW moves each coordinate by about the rate whatever the evidence: lengths are not kept, and at the documented
    rate a 384-d unit vector ends several units away. `max_angle` bounds that: after each step a row is turned back to
    within this angle of the original and given its length (EUCLID: drawn back to within max_angle times its length).

    Parameters: `adjustment_rate` (0.1) AdamW's learning rate; `num_iterations` (10) steps, at most 10,000;
    `softmin_temperature` (1.0) in units of the similarity; `max_angle` (not given: unbounded) in radians, at most pi.
    """

    PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "adjustment_rate": Parameter(0.1, above=True),
        "num_iterations": Parameter(10, most=10_000, whole=True),
        "softmin_temperature": Parameter(1.0, above=True),
        "max_angle": Parameter(None, above=True, most=pi),
    }

    def __init__(
        self, metric: Metric, aggregation: Aggregation, parameters: Mapping[str, float], device: str | None = None
    ) -> None:
        values = resolve(self.PARAMETERS, parameters)
        self.metric = metric
        self.aggregation = aggregation
        self.adjustment_rate = values["adjustment_rate"]
        self.num_iterations = int(values["num_iterations"])
        self.softmin_temperature = values["softmin_temperature"]
        self.max_angle = values.get("max_angle")
        self.device = choose_device(device)

    @torch.no_grad()
    def adjust(self, evidence: Evidence) -> Floats:
        """Return the new rows, [R, D] float32; rows without evidence are byte-identical."""
        entries = Entries.of(evidence)
        batch = Batch(evidence, entries, self.device)
        if self.metric is Metric.COSINE:
            batch.queries.copy_(directions(batch.queries))
        for chunk in batch.chunks(_coefficients(entries, len(evidence.queries))):
            self._descend(chunk)
            batch.keep_finite(chunk)
        return batch.result()

    def _descend(self, chunk: Chunk) -> None:
        x = chunk.x
        origin = x if self.max_angle is None else x.clone()
        mean, square, step = torch.zeros_like(x), torch.zeros_like(x), torch.zeros((), device=x.device)
        for _ in range(self.num_iterations):
            # A gradient is gone before the next one is made: it takes the same memory, which is still in the cache.
            adamw([x], [self.gradient(chunk)], [mean], [square], [], [step], lr=self.adjustment_rate, **ADAMW)
            if self.max_angle is not None:
                x.copy_(draw_back(self.metric, x, origin, self.max_angle))

    def gradient(self, chunk: Chunk) -> Tensor:
        """Return the loss's gradient [R, D] at the rows of the chunk; its queries have length 1 for COSINE.

        The chain is c S^3 -> S = sum a s -> s -> x, with dS/ds = a (1 + (s - S) / temperature) for MIN, a for AVG, and

            COSINE: ds/dx = (q - s x/|x|) / |x|;  DOT: ds/dx = q;  EUCLID: ds/dx = (q - x) / |q - x|
        """
        match self.metric:
            case Metric.COSINE:
                near, squares = products(chunk)
                inverse = inverse_roots(squares)
                inverse_of_pair = inverse.index_select(0, chunk.row)
                s = near * inverse_of_pair
                pull = self._slope(chunk, s).mul_(inverse_of_pair)
                along = sum_of_row(chunk, pull * s).mul_(inverse)
                return weighted_sum(chunk, pull, along.neg_())
            case Metric.DOT:
                near, squares = products(chunk)
                return weighted_sum(chunk, self._slope(chunk, near), torch.zeros_like(squares))
            case Metric.EUCLID:
                # The difference first: |x|^2 - 2 x.q + |q|^2 loses what is near, and AdamW makes a step of the rest.
                apart = chunk.queries.index_select(0, chunk.session) - chunk.x.index_select(0, chunk.row)
                distance = length(apart).double()
                slope = self._slope(chunk, -distance)
                return weighted_sum_of_row(chunk, torch.where(distance > 0, slope / distance, 0.0), apart)

    def _slope(self, chunk: Chunk, s: Tensor) -> Tensor:
        """Return the loss's derivative by each similarity `s` [P], as [P]."""
        if not chunk.has_parts:
            return s.square().mul_(chunk.weight).mul_(3.0)
        share = shares(self.aggregation, chunk, s, self.softmin_temperature)
        total = sum_of_entry(chunk, share * s)
        if self.aggregation is Aggregation.MIN:
            share = share.addcmul(share, s - total, value=1.0 / self.softmin_temperature)
        return share.mul_(total.square_()).mul_(chunk.weight).mul_(3.0)


def draw_back(metric: Metric, x: Tensor, origin: Tensor, max_angle: float) -> Tensor:
    """Bring the rows of `x` [R, D] back to within `max_angle` of `origin` [R, D], and to its length."""
    radius = length(origin)[:, None]
    if metric is Metric.EUCLID:
        step = x - origin
        shorter = (max_angle * radius / length(step)[:, None]).clamp(max=1.0)
        return torch.where(step.any(dim=-1, keepdim=True), origin + shorter * step, origin)
    u, v = directions(origin), directions(x)
    along = dot(u, v)
    across = torch.addcmul(v, u, along[:, None], value=-1)
    # Once more: the first pass leaves rounding of the size of v, which is much of what is left when that is small.
    across.addcmul_(u, dot(across, u)[:, None], value=-1)
    size = length(across).double()
    turns = size > NOISE
    angle = torch.where(turns, torch.atan2(size, along.double()), 0.0).clamp(max=max_angle)
    sideways = torch.where(turns, angle.sin() / size, 0.0).to(x.dtype)
    return radius * (angle.cos().to(x.dtype)[:, None] * u).addcmul_(across, sideways[:, None])


def _coefficients(entries: Entries, sessions: int) -> Doubles:
    """Return c [E]: -w over the session's sum of w for a positive, theta over its sum of theta for a negative."""
    side = 2 * entries.session + entries.positive
    share = entries.weight / np.bincount(side, weights=entries.weight, minlength=2 * sessions)[side]
    return np.where(entries.positive, -share, share)
