"""Intervals against published and tabulated figures."""

from __future__ import annotations

import math

import pytest

from clickstream_service.domain import intervals


def test_the_interval_of_a_rate_is_wilsons() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3.
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (part, whole), (low, high) in published.items():
        value = intervals.rate(part, whole)
        assert (value.low, value.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_the_interval_of_a_difference_of_rates_is_newcombes() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 873, table II, method 10.
    published = {(56, 70, 48, 80): (0.0524, 0.3339), (9, 10, 3, 10): (0.1705, 0.8090), (6, 7, 2, 7): (0.0582, 0.8062)}
    for (a, m, b, n), (low, high) in published.items():
        value = intervals.difference(intervals.rate(a, m), intervals.rate(b, n))
        assert (value.low, value.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (10, 2.2281), (30, 2.0423)]
)
def test_the_interval_of_a_mean_is_students(freedom: int, quantile: float) -> None:
    n = freedom + 1
    values = range(n)
    value = intervals.mean(n, sum(values), sum(each * each for each in values))
    deviation = math.sqrt(sum((each - value.value) ** 2 for each in values) / freedom)
    assert (value.high - value.low) / 2 == pytest.approx(quantile * deviation / math.sqrt(n), rel=0.01)


def test_the_interval_of_a_count_holds_what_a_poisson_count_allows() -> None:
    assert intervals.count(0).low == 0
    assert intervals.count(0).high == pytest.approx(3.8415, abs=1e-4)
    assert (intervals.count(100).low, intervals.count(100).high) == (
        pytest.approx(82.22, abs=0.01),
        pytest.approx(121.62, abs=0.01),
    )


def test_means_of_values_without_spread_differ_for_sure() -> None:
    value = intervals.difference_of_means((3, 30, 300), (2, 10, 50))
    assert (value.value, value.low, value.high) == (5, 5, 5)
