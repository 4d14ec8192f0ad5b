"""Metrics from the sums that rollups keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clickstream_service.domain import intervals
from clickstream_service.domain.signal import Comparison, Metric, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

COUNTS: Final = {Metric.SESSIONS: "sessions", Metric.EVENTS: "events"}
RATES: Final = {
    Metric.CTR: "clicked",
    Metric.ZERO_RESULT_RATE: "zero",
    Metric.REFINEMENT_RATE: "refined",
    Metric.CONVERSION_RATE: "converted",
}
MEANS: Final = {
    Metric.FIRST_CLICK_RANK: ("rank", 1),
    Metric.TIME_TO_FIRST_CLICK: ("wait", 1000),
    Metric.DWELL: ("dwell", 1000),
}
"""The name of the sums, and how many of them make a unit of the metric."""

SUMS: Final = (
    *COUNTS.values(),
    *RATES.values(),
    *(f"{name}_{power}" for name, _ in MEANS.values() for power in ("n", "sum", "sq")),
)
"""All sums that metrics are made of."""


def value(metric: Metric, sums: Mapping[str, int]) -> Value:
    """Return a metric with its interval."""
    if metric in COUNTS:
        return intervals.count(sums[COUNTS[metric]])
    if metric in RATES:
        return intervals.rate(sums[RATES[metric]], sums["sessions"])
    return intervals.mean(*_moments(metric, sums), MEANS[metric][1])


def compare(metric: Metric, sums: Mapping[str, int], baseline: Mapping[str, int]) -> Comparison:
    """Return how far a metric is apart in two periods."""
    one, other = value(metric, sums), value(metric, baseline)
    if metric in MEANS:
        unit = MEANS[metric][1]
        difference = intervals.difference_of_means(_moments(metric, sums), _moments(metric, baseline), unit)
    else:
        difference = intervals.difference(one, other)
    return Comparison(metric, one, other, difference)


def _moments(metric: Metric, sums: Mapping[str, int]) -> tuple[int, int, int]:
    name = MEANS[metric][0]
    return sums[f"{name}_n"], sums[f"{name}_sum"], sums[f"{name}_sq"]
