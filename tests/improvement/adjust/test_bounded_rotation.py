"""The closed form against its formula, written out plainly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from improvement_service.adjust.evidence import angles
from improvement_service.domain.index import Aggregation, Metric
from tests.improvement.adjust import adjust_cases as cases


@given(seed=st.integers(0, 2**32 - 1), metric=st.sampled_from([Metric.COSINE, Metric.DOT]))
def test_a_row_turns_as_the_formula_says(seed: int, metric: Metric) -> None:
    rng = np.random.default_rng(seed)
    x, q, p = rng.standard_normal((3, 8))
    weights = {"w": 1.5, "theta": 0.5}
    evidence = cases.simple([x], [q, p], [(0, 0, True, weights["w"]), (1, 0, False, weights["theta"])])
    moved = cases.adjust("bounded_rotation", metric, Aggregation.MIN, evidence, {"eta": 0.2, "gamma": 0.7, "rho": 0.1})

    v = x / np.linalg.norm(x)
    e = weights["w"] * q / np.linalg.norm(q) - 0.7 * weights["theta"] * p / np.linalg.norm(p)
    t = e - (e @ v) * v
    phi = min(0.2 * np.linalg.norm(t), 0.1)
    expected = np.linalg.norm(x) * (np.cos(phi) * v + np.sin(phi) * t / np.linalg.norm(t))
    np.testing.assert_allclose(moved[0], expected, rtol=1e-4, atol=1e-5)


@given(seed=st.integers(0, 2**32 - 1))
def test_a_row_steps_as_the_formula_says_in_euclid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, q, p = rng.standard_normal((3, 8))
    evidence = cases.simple([x], [q, p], [(0, 0, True, 2.0), (1, 0, False, 0.5)])
    moved = cases.adjust("bounded_rotation", Metric.EUCLID, Aggregation.MIN, evidence, {"eta": 0.05})

    e = 2.0 * (q - x) - 0.5 * (p - x)
    step = min(0.05 * np.linalg.norm(e), 0.15 * np.linalg.norm(x))
    np.testing.assert_allclose(moved[0], x + step * e / np.linalg.norm(e), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metric", Metric)
def test_the_nearest_part_moves_most_under_min_and_all_alike_under_avg(metric: Metric) -> None:
    near, far, query = [1.0, 0.0, 0.3], [0.1, 1.0, 0.3], [1.0, 0.0, 0.5]
    evidence = cases.simple([near, far], [query], [(0, 0, True, 1.0)], item_of_row=[0, 0])
    sharp = cases.adjust("bounded_rotation", metric, Aggregation.MIN, evidence, {"temperature": 0.02})
    assert (sharp[0] != evidence.vectors[0]).any()
    np.testing.assert_allclose(sharp[1], far, atol=1e-6)

    halves = cases.simple([near, far], [query], [(0, 0, True, 0.5), (0, 1, True, 0.5)])
    alike = cases.adjust("bounded_rotation", metric, Aggregation.AVG, evidence)
    np.testing.assert_allclose(alike, cases.adjust("bounded_rotation", metric, Aggregation.AVG, halves), atol=1e-6)


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("weight", [10.0, 1e6, 3e38])
def test_many_clicks_on_a_near_match_do_not_carry_it_beyond_its_query(metric: Metric, weight: float) -> None:
    query = np.array([1.0, 0.0], dtype=np.float32)
    x = np.array([[1.0, 0.03]], dtype=np.float32)
    evidence = cases.simple(x, [query], [(0, 0, True, weight)])
    moved = cases.adjust("bounded_rotation", metric, Aggregation.MIN, evidence)
    assert np.linalg.norm(moved[0] - query) < np.linalg.norm(x[0] - query) * 0.5
    assert moved[0, 1] > -1e-4


def test_a_passed_over_result_moves_away_and_a_clicked_one_nearer() -> None:
    rows = np.array([[0.8, 0.6, 0.0], [0.8, 0.0, 0.6]])
    evidence = cases.simple(rows, [[1.0, 0, 0]], [(0, 0, True, 1.0), (0, 1, False, 0.5)])
    moved = cases.adjust("bounded_rotation", Metric.COSINE, Aggregation.MIN, evidence)
    np.testing.assert_allclose(angles(evidence.vectors, moved), [0.15 * 0.6, 0.15 * 0.5 * 0.6], atol=1e-5)
    assert moved[0, 0] > 0.8
    assert moved[1, 0] < 0.8


def test_an_antipodal_query_and_a_zero_one_leave_a_row_where_it_is() -> None:
    evidence = cases.simple([[0.6, 0.8], [0.6, 0.8]], [[-0.6, -0.8], [0, 0]], [(0, 0, True, 1.0), (1, 1, True, 1.0)])
    moved = cases.adjust("bounded_rotation", Metric.COSINE, Aggregation.MIN, evidence)
    np.testing.assert_allclose(moved, evidence.vectors, atol=1e-3)
