"""Evidence of any shape, as hypothesis draws it, and what tests do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from improvement_service.adjust.evidence import Evidence, SessionSignals
from improvement_service.adjust.registry import load
from improvement_service.domain.index import Aggregation, Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from improvement_service.adjust.evidence import Floats

METRICS = st.sampled_from(Metric)
AGGREGATIONS = st.sampled_from(Aggregation)
ADJUSTERS = st.sampled_from(["bounded_rotation", "torch_based"])


@st.composite
def people(draw: st.DrawFn, most_users: int = 3) -> tuple[dict[str, list[SessionSignals]], dict[str, Floats]]:
    """Some users' sessions and the vectors of the objects, with the odd ones among them: 0, the query, its opposite."""
    dimension = draw(st.sampled_from([1, 2, 3, 7, 16, 33]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    queries = [_vectors(draw, rng, 1, dimension, [])[0] for _ in range(draw(st.integers(1, 4)))]
    objects = {
        f"o{n}": _vectors(draw, rng, draw(st.integers(1, 4)), dimension, queries)
        for n in range(draw(st.integers(1, 8)))
    }
    users: dict[str, list[SessionSignals]] = {}
    for user in range(draw(st.integers(1, most_users))):
        users[f"u{user}"] = []
        for number in range(draw(st.integers(1, 4))):
            shown = list(rng.permutation(list(objects)))
            clicked = draw(st.lists(st.sampled_from(shown), min_size=1, max_size=3, unique=True))
            weights = {str(o): draw(st.sampled_from([0.25, 1.0, 1.0, 3.0, 1e30])) for o in clicked}
            query = queries[draw(st.integers(0, len(queries) - 1))]
            results = [(str(o), rank) for rank, o in enumerate(shown, 1)]
            users[f"u{user}"].append(SessionSignals(f"s{number}", query, results, weights))
    return users, objects


def _vectors(draw: st.DrawFn, rng: np.random.Generator, count: int, dimension: int, queries: list[Floats]) -> Floats:
    made = rng.standard_normal((count, dimension)) * draw(st.sampled_from([0.1, 1.0, 1.0, 50.0]))
    kind = draw(st.sampled_from(["random", "random", "random", "zero", "query", "opposite", "near"]))
    if kind == "zero":
        made[0] = 0
    elif queries:
        made[0] = {"query": 1, "opposite": -2, "near": 3, "random": 0}[kind] * queries[0] + (
            made[0] if kind == "random" else 1e-4 * made[0] if kind == "near" else 0
        )
    return made.astype(np.float32)


def adjust(
    name: str,
    metric: Metric,
    aggregation: Aggregation,
    evidence: Evidence,
    parameters: Mapping[str, float] | None = None,
) -> Floats:
    return load(name, metric, aggregation, parameters, "cpu").adjust(evidence)


def simple(
    vectors: Any, queries: Any, entries: list[tuple[int, int, bool, float]], item_of_row: Any = None
) -> Evidence:
    """Evidence from plain lists; entries are (session, item, positive, weight)."""
    rows = np.asarray(vectors, dtype=np.float32)
    return Evidence(
        vectors=rows,
        item_of_row=np.asarray(range(len(rows)) if item_of_row is None else item_of_row, dtype=np.int64),
        queries=np.asarray(queries, dtype=np.float32),
        session=np.array([e[0] for e in entries], dtype=np.int64),
        item=np.array([e[1] for e in entries], dtype=np.int64),
        positive=np.array([e[2] for e in entries], dtype=np.bool_),
        weight=np.array([e[3] for e in entries], dtype=np.float32),
    )


def lengths(rows: Floats) -> Any:
    return np.linalg.norm(rows.astype(np.float64), axis=1)
