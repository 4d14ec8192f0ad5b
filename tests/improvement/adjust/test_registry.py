"""Adjusters are found by name, and what does not fit is refused by name."""

from __future__ import annotations

import math

import pytest

from improvement_service.adjust.bounded_rotation import BoundedRotation
from improvement_service.adjust.registry import AdjusterError, load
from improvement_service.adjust.torch_based import TorchBased
from improvement_service.domain.index import Aggregation, Metric


def test_the_two_adjusters_are_found_by_their_entry_points() -> None:
    rotation = load("bounded_rotation", Metric.COSINE, Aggregation.MIN)
    descent = load("torch_based", Metric.DOT, Aggregation.AVG, {"num_iterations": 3.0, "max_angle": 0.5}, "cpu")
    assert isinstance(rotation, BoundedRotation)
    assert (rotation.eta, rotation.gamma, rotation.rho) == (0.15, 1.0, 0.15)
    assert isinstance(descent, TorchBased)
    assert (descent.adjustment_rate, descent.num_iterations, descent.max_angle) == (0.1, 3, 0.5)


@pytest.mark.parametrize(
    ("name", "parameters", "field"),
    [
        ("rotation", {}, "adjuster"),
        ("bounded_rotation", {"etta": 0.1}, "etta"),
        ("bounded_rotation", {"eta": 0.0}, "eta"),
        ("bounded_rotation", {"gamma": -1.0}, "gamma"),
        ("bounded_rotation", {"rho": 2.0}, "rho"),
        ("bounded_rotation", {"temperature": math.nan}, "temperature"),
        ("torch_based", {"adjustment_rate": math.inf}, "adjustment_rate"),
        ("torch_based", {"num_iterations": 2.5}, "num_iterations"),
        ("torch_based", {"softmin_temperature": 0.0}, "softmin_temperature"),
        ("torch_based", {"max_angle": 4.0}, "max_angle"),
    ],
)
def test_what_is_unknown_or_out_of_range_is_refused_by_name(
    name: str, parameters: dict[str, float], field: str
) -> None:
    with pytest.raises(AdjusterError) as refused:
        load(name, Metric.COSINE, Aggregation.MIN, parameters)
    assert refused.value.field == field
    assert field in str(refused.value)
