"""How likely a result is to be looked at, by its rank."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class PropensityMethod(IntEnum):
    """How propensities were estimated, numbered as in the contract."""

    INTERVENTION_HARVESTING = 1
    REGRESSION_EM = 2
    PRIOR = 3


class PropensityAssumption(IntEnum):
    """What an estimate rests on that its clicks cannot show, numbered as in the contract."""

    NONE = 0
    RELEVANCE_OF_OBJECT = 1
    POWER_LAW = 2


@dataclass(frozen=True, slots=True)
class RankPropensity:
    """The probability of being looked at at a rank, relative to rank 1, and its 95 % interval."""

    rank: int
    examination: float
    low: float
    high: float
    impressions: int
    clicks: int


@dataclass(frozen=True, slots=True)
class Propensities:
    """An estimate for a surface and device (empty for all); `ranks` are 1, 2, 3, ..., never rising."""

    version: int
    surface: str
    device: str
    ranks: tuple[RankPropensity, ...]
    method: PropensityMethod
    session_count: int
    effective_sample_size: float
    below_floor: bool
    trust_corrected: bool
    background: float
    assumption: PropensityAssumption
    created_at: datetime

    def examination(self, rank: int) -> float:
        """Return the probability at a rank from 1 on; further down than the estimate goes, it falls as 1/rank."""
        if rank <= len(self.ranks):
            return self.ranks[max(rank, 1) - 1].examination
        return self.ranks[-1].examination * len(self.ranks) / rank


def prior_examination(rank: int) -> float:
    """Return 1/rank: what is taken when nothing was estimated."""
    return 1.0 / max(rank, 1)


@dataclass(frozen=True, slots=True)
class Trust:
    """P(click | examined, relevant) and P(click | examined, not relevant), by rank from 1 on."""

    click_if_relevant: tuple[float, ...]
    click_if_irrelevant: tuple[float, ...]
