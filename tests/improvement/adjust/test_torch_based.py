"""The batched descent against autograd and torch.optim.AdamW, a session at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from improvement_service.adjust.batch import Batch
from improvement_service.adjust.entries import Entries
from improvement_service.adjust.torch_based import TorchBased, _coefficients
from improvement_service.domain.index import Aggregation, Metric
from tests.improvement.adjust import adjust_cases as cases

if TYPE_CHECKING:
    from improvement_service.adjust.chunks import Chunk
    from improvement_service.adjust.evidence import Evidence


def loss(x: Tensor, evidence: Evidence, metric: Metric, aggregation: Aggregation, temperature: float) -> Tensor:
    """The documented loss, session by session and item by item, for autograd to differentiate."""
    total = x.sum() * 0
    for session in range(len(evidence.queries)):
        q = torch.tensor(evidence.queries[session], dtype=x.dtype)
        for positive in (True, False):
            entries = np.flatnonzero((evidence.session == session) & (evidence.positive == positive))
            if not len(entries):
                continue
            cubes = [
                _similarity(
                    x[torch.from_numpy(evidence.item_of_row == evidence.item[e])], q, metric, aggregation, temperature
                )
                ** 3
                for e in entries
            ]
            weight = torch.tensor(evidence.weight[entries], dtype=x.dtype)
            mean = (weight * torch.stack(cubes)).sum() / weight.sum()
            total = total - mean if positive else total + mean
    return total


def _similarity(parts: Tensor, q: Tensor, metric: Metric, aggregation: Aggregation, temperature: float) -> Tensor:
    match metric:
        case Metric.COSINE:
            s = torch.nn.functional.cosine_similarity(parts, q[None, :], dim=-1)
        case Metric.DOT:
            s = parts @ q
        case Metric.EUCLID:
            s = -torch.linalg.vector_norm(parts - q, dim=-1)
    return ((s / temperature).softmax(0) * s).sum() if aggregation is Aggregation.MIN else s.mean()


def mixed(seed: int, dimension: int = 6) -> Evidence:
    """Two sessions that share an item, three items of 1 to 3 parts."""
    rng = np.random.default_rng(seed)
    entries = [(0, 0, True, 2.0), (0, 1, False, 1.0), (0, 2, False, 0.5), (1, 1, True, 1.0), (1, 0, False, 0.25)]
    at = [0, 0, 1, 2, 2, 2]
    return cases.simple(rng.standard_normal((6, dimension)), rng.standard_normal((2, dimension)), entries, at)


def in_float64(evidence: Evidence) -> Chunk:
    entries = Entries.of(evidence)
    batch = Batch(evidence, entries, torch.device("cpu"), torch.float64)
    (chunk,) = batch.chunks(_coefficients(entries, 2))
    return chunk


@given(seed=st.integers(0, 2**32 - 1), metric=cases.METRICS, aggregation=cases.AGGREGATIONS)
def test_the_gradient_in_closed_form_is_that_of_autograd(seed: int, metric: Metric, aggregation: Aggregation) -> None:
    evidence = mixed(seed)
    x = torch.tensor(evidence.vectors, dtype=torch.float64, requires_grad=True)
    loss(x, evidence, metric, aggregation, 0.7).backward()
    chunk = in_float64(evidence)
    if metric is Metric.COSINE:
        chunk.queries.copy_(torch.nn.functional.normalize(chunk.queries, dim=-1))
    closed = TorchBased(metric, aggregation, {"softmin_temperature": 0.7}, "cpu").gradient(chunk)
    torch.testing.assert_close(closed[:, : x.shape[1]], x.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("aggregation", Aggregation)
@pytest.mark.parametrize("dimension", [6, 32])
def test_it_ends_where_a_plain_autograd_loop_with_adamw_ends(
    metric: Metric, aggregation: Aggregation, dimension: int
) -> None:
    evidence = mixed(7, dimension)
    x = torch.tensor(evidence.vectors, requires_grad=True)
    optimizer = torch.optim.AdamW([x], lr=0.1)
    for _ in range(10):
        optimizer.zero_grad()
        loss(x, evidence, metric, aggregation, 1.0).backward()
        optimizer.step()
    moved = cases.adjust("torch_based", metric, aggregation, evidence)
    np.testing.assert_allclose(moved, x.detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("positive", [True, False])
def test_a_session_with_one_side_only_learns_from_that_side(positive: bool) -> None:  # noqa: FBT001
    evidence = cases.simple([[0.6, 0.8, 0.1]], [[1.0, 0, 0]], [(0, 0, positive, 1.0)])
    moved = cases.adjust("torch_based", Metric.COSINE, Aggregation.MIN, evidence, {"adjustment_rate": 0.01})
    before, after = (rows[0, 0] / np.linalg.norm(rows[0]) for rows in (evidence.vectors, moved))
    assert (after > before) == positive


def test_no_iterations_move_nothing() -> None:
    evidence = mixed(1)
    moved = cases.adjust("torch_based", Metric.DOT, Aggregation.MIN, evidence, {"num_iterations": 0})
    np.testing.assert_array_equal(moved, evidence.vectors)


def test_a_max_angle_in_euclid_bounds_the_step_by_the_length() -> None:
    evidence = mixed(3)
    moved = cases.adjust("torch_based", Metric.EUCLID, Aggregation.MIN, evidence, {"max_angle": 0.05})
    assert (cases.lengths(moved - evidence.vectors) <= 0.05 * cases.lengths(evidence.vectors) + 1e-5).all()
