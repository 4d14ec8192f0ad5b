"""Examination probability by rank, with intervals: which method, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from clickstream_service.position_bias.background import clean
from clickstream_service.position_bias.intervention import Harvest, harvest
from clickstream_service.position_bias.prior import Shrunk, shrink, shrink_harvest, shrink_slope
from clickstream_service.position_bias.regression_em import regression_em
from tideline.errors import InvalidField

if TYPE_CHECKING:
    from clickstream_service.position_bias.arrays import Floats, Indices
    from clickstream_service.position_bias.cells import Cells
    from clickstream_service.position_bias.counts import ClickCounts
    from clickstream_service.position_bias.trust import TrustBias


class Method(StrEnum):
    """How examination was estimated."""

    INTERVENTION_HARVESTING = "intervention_harvesting"
    REGRESSION_EM = "regression_em"
    PRIOR = "prior"


class Assumption(StrEnum):
    """What an estimate rests on, beside the position-based model, that the same clicks cannot show to be so."""

    NONE = "none"
    RELEVANCE_OF_OBJECT = "relevance_of_object"
    """An object is as relevant, on average, at every rank where it was shown (see `regression_em`)."""
    POWER_LAW = "power_law"


@dataclass(frozen=True, slots=True)
class Floor:
    """Below either, the prior is used and the estimate says so."""

    sessions: int = 200
    clicks_per_rank: float = 10.0
    """Clicks that can be held against another rank of the same pair, on average over the ranks shown."""


@dataclass(frozen=True, slots=True)
class Examination:
    """Examination by rank relative to rank 1, never rising; all arrays are [R].

    `low` and `high` are the ends of the interval at `level`; rank 1 is 1 by definition. `impressions` and `clicks`
    count all that was added. `effective_sample_size`: how many independent sessions the estimate is worth: those that
    take part in a comparison of ranks, divided by how much more alike the clicks of a group are than chance.
    `background` is the chance per impression of a click whether examined or not that was found and taken off.
    """

    ranks: Indices
    examination: Floats
    low: Floats
    high: Floats
    impressions: Indices
    clicks: Indices
    sessions: int
    effective_sample_size: float
    method: Method
    below_floor: bool
    trust_corrected: bool
    background: float
    assumption: Assumption


def estimate(
    counts: ClickCounts,
    *,
    method: Method | None = None,
    trust: TrustBias | None = None,
    floor: Floor = Floor(),
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Examination:
    """Estimate examination by rank from `counts`; the same counts and seed give the same answer.

    The rule; a `method` that is given is taken in place of 2 and 3:

    1. fewer than `floor.sessions` sessions: the prior;
    2. at least `floor.clicks_per_rank` contrasted clicks a rank shown (`Cells.contrasted_clicks`) among (query,
    object):
       intervention harvesting, which assumes nothing about relevance;
    3. as many among objects, whatever the query: regression-EM, which assumes that objects are as relevant at the
       ranks where they happen to be shown (see there);
    4. else the prior: nothing was ever moved, so the ranks cannot be told apart from the results at them.

    The prior is 1/rank^eta; the little data there is still moves eta. All methods are then shrunk towards a power law
    as far as the data leave room (`prior.shrink`) and made never to rise (isotonic regression with the clicks as
    weights, rank 1 held at 1); intervals are percentiles of the bootstrap, projected the same way, which keeps a curve
    that does not rise inside. Trust parameters are for harvesting and the prior.

    Raises `InvalidField` when trust is given with regression-EM, or does not fit the clicks.
    """
    cells = counts.cells()
    if method is Method.REGRESSION_EM and trust is not None:
        raise InvalidField("the trust correction needs intervention harvesting", field="trust_bias")
    candidates = [Method.INTERVENTION_HARVESTING, Method.REGRESSION_EM] if method is None else [method]
    if trust is not None:
        candidates = [candidate for candidate in candidates if candidate is not Method.REGRESSION_EM]
    chosen = next((candidate for candidate in candidates if _suffices(candidate, counts, cells, floor)), Method.PRIOR)
    contrasted = _contrasts(cells, chosen)
    rng = np.random.default_rng(seed)
    harvested = harvest(cells, trust) if chosen is not Method.REGRESSION_EM and contrasted > 0 else None
    curve, background = harvested.curve() if harvested else None, 0.0
    if chosen is Method.PRIOR:
        log_examination, drawn = shrink_slope(curve, counts.max_rank, draws, rng)
    else:
        shrunk, background = _shrunk(cells, harvested, corrected=trust is not None)
        curve, log_examination, drawn = shrunk.curve, shrunk.log_examination, shrunk.draws(draws, rng)
    weight: Floats = counts.clicks_by_rank.astype(np.float64) + 1
    low, high = np.asarray(np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0), np.float64)
    share = contrasted / max(float(cells.clicks.sum()), 1.0)
    return Examination(
        ranks=np.arange(1, counts.max_rank + 1),
        examination=never_rising(log_examination, weight),
        low=never_rising(np.minimum(low, log_examination), weight),
        high=never_rising(np.maximum(high, log_examination), weight),
        impressions=counts.impressions_by_rank.copy(),
        clicks=counts.clicks_by_rank.copy(),
        sessions=counts.sessions,
        effective_sample_size=counts.sessions * share / max(curve.dispersion if curve else 1.0, 1.0),
        method=chosen,
        below_floor=chosen is Method.PRIOR and method is not Method.PRIOR,
        trust_corrected=trust is not None,
        background=background,
        assumption=_assumption(chosen, counts, cells, floor),
    )


def _suffices(method: Method, counts: ClickCounts, cells: Cells, floor: Floor) -> bool:
    if method is Method.PRIOR:
        return True
    needed = floor.clicks_per_rank * max(int(np.count_nonzero(counts.impressions_by_rank)), 1)
    return counts.sessions >= floor.sessions and _contrasts(cells, method) >= needed


def _assumption(method: Method, counts: ClickCounts, cells: Cells, floor: Floor) -> Assumption:
    if method is Method.PRIOR:
        return Assumption.POWER_LAW
    # With enough results of a query at several ranks, harvesting could be held against it.
    untold = not _suffices(Method.INTERVENTION_HARVESTING, counts, cells, floor)
    return Assumption.RELEVANCE_OF_OBJECT if method is Method.REGRESSION_EM and untold else Assumption.NONE


def _shrunk(cells: Cells, harvested: Harvest | None, *, corrected: bool) -> tuple[Shrunk, float]:
    if harvested is None:
        return shrink(regression_em(cells)), 0.0
    if not corrected:
        curve, background = clean(harvested)
        if background > 0:
            return shrink(curve), background
    return shrink_harvest(harvested), 0.0


def _contrasts(cells: Cells, method: Method) -> float:
    return float((cells.by_item() if method is Method.REGRESSION_EM else cells).contrasted_clicks().sum())


def never_rising(log_examination: Floats, weight: Floats) -> Floats:
    """Return the nearest theta [R] from 1 on that never rises, in weighted squares of log theta [R-1] of ranks 2..R.

    Pool adjacent violators (Barlow et al. 1972). `weight` [R]. Order is kept: a curve below another stays below.
    """
    values: list[float] = []
    weights: list[float] = []
    sizes: list[int] = []
    for value, importance in zip(np.minimum(log_examination, 0.0), weight[1:], strict=True):
        values.append(float(value))
        weights.append(float(importance))
        sizes.append(1)
        while len(values) > 1 and values[-1] > values[-2]:
            total = weights[-1] + weights[-2]
            values[-2:] = [(values[-1] * weights[-1] + values[-2] * weights[-2]) / total]
            weights[-2:] = [total]
            sizes[-2:] = [sizes[-1] + sizes[-2]]
    return np.asarray(np.exp(np.concatenate([[0.0], np.repeat(np.array(values), sizes)])))
