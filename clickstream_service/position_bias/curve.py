"""What a method found out, before the prior has its say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clickstream_service.position_bias.arrays import Floats

PSEUDO_CLICKS = 1.0
"""So many clicks that fall as 1/rank are added, so that a rank without clicks has an estimate, if a wide one."""


@dataclass(frozen=True, slots=True)
class Curve:
    """log theta_k of ranks 2..R relative to rank 1, and how it would vary.

    `log_examination` [R-1]; `covariance` [R-1, R-1] as the model has it; `influence` [G, R-1] is by how much each group
    of sessions moves the estimate when it counts once more, which the bootstrap draws from; `slack` [R-1, R-1] is the
    part of the variance that the pseudo-clicks hide; `dispersion` is how much more groups differ than independent
    clicks would (1: not at all).
    """

    log_examination: Floats
    covariance: Floats
    influence: Floats
    slack: Floats
    dispersion: float
