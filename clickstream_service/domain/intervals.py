"""How sure a number is: 95 % intervals of rates, counts and means, and of differences between them."""

from __future__ import annotations

import math
from typing import Final

from clickstream_service.domain.signal import NOTHING, Value

Z: Final = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


def rate(part: int, whole: int) -> Value:
    """Return part / whole with the score interval of Wilson (1927), which holds for few observations, too."""
    if whole == 0:
        return NOTHING
    p, z2 = part / whole, Z * Z / whole
    centre = (p + z2 / 2) / (1 + z2)
    half = Z * math.sqrt(p * (1 - p) / whole + z2 / (4 * whole)) / (1 + z2)
    return Value(p, max(centre - half, 0.0), min(centre + half, 1.0), whole)


def count(number: int) -> Value:
    """Return a count with its score interval, taken as Poisson: n + z^2/2 -+ z sqrt(n + z^2/4)."""
    centre, half = number + Z * Z / 2, Z * math.sqrt(number + Z * Z / 4)
    return Value(float(number), max(centre - half, 0.0), centre + half, number)


def mean(n: int, total: int, squares: int, unit: int = 1) -> Value:
    """Return total / n in units of `unit` with Student's interval; one observation says nothing of how sure it is."""
    if n == 0:
        return NOTHING
    centre = total / n / unit
    half = _t(n - 1) * math.sqrt(_variance_of_mean(n, total, squares)) / unit if n > 1 else math.inf
    return Value(centre, centre - half, centre + half, n)


def difference(one: Value, other: Value) -> Value:
    """Return one - other with the interval of Newcombe (1998, method 10), made of the intervals of both."""
    if one.value is None or other.value is None:
        return NOTHING
    d = one.value - other.value
    low = d - math.hypot(one.value - one.low, other.high - other.value)
    high = d + math.hypot(one.high - one.value, other.value - other.low)
    return Value(d, low, high, one.count + other.count)


def difference_of_means(one: tuple[int, int, int], other: tuple[int, int, int], unit: int = 1) -> Value:
    """Return the difference of two means, each given as (n, sum, sum of squares), with the interval of Welch (1947)."""
    if not (one[0] and other[0]):
        return NOTHING
    d = (one[1] / one[0] - other[1] / other[0]) / unit
    n = one[0] + other[0]
    if one[0] < 2 or other[0] < 2:
        return Value(d, -math.inf, math.inf, n)
    a, b = _variance_of_mean(*one), _variance_of_mean(*other)
    if a + b == 0:
        return Value(d, d, d, n)
    freedom = (a + b) ** 2 / (a * a / (one[0] - 1) + b * b / (other[0] - 1))
    half = _t(freedom) * math.sqrt(a + b) / unit
    return Value(d, d - half, d + half, n)


def _variance_of_mean(n: int, total: int, squares: int) -> float:
    # In whole numbers, since the difference of two large ones is all that counts.
    return (n * squares - total * total) / (n * n * (n - 1))


def _t(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's t (Abramowitz and Stegun 26.7.5).

    Off by less than 0.2 % from 5 degrees of freedom on; exact for 1 and 2, which the series does not reach.
    """
    if freedom <= 1.5:
        return 12.706204736
    if freedom <= 2.5:
        return 4.302652730
    terms = (
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
        (79 * Z**9 + 776 * Z**7 + 1482 * Z**5 - 1920 * Z**3 - 945 * Z) / 92160,
    )
    return Z + sum(term / freedom**power for power, term in enumerate(terms, 1))
