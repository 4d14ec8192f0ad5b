"""What holds for every adjuster, metric and mix of evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from improvement_service.adjust.evidence import SessionSignals, angles, collect
from improvement_service.domain.index import Aggregation, Metric
from tests.improvement.adjust import adjust_cases as cases

if TYPE_CHECKING:
    import random

People = tuple[dict[str, Any], dict[str, Any]]
EVERY = {"name": cases.ADJUSTERS, "metric": cases.METRICS, "aggregation": cases.AGGREGATIONS}


@given(world=cases.people(), **EVERY)
def test_nothing_is_ever_nan_or_infinite(world: People, name: str, metric: Metric, aggregation: Aggregation) -> None:
    moved = cases.adjust(name, metric, aggregation, collect(*world).evidence)
    assert np.isfinite(moved).all()


@given(world=cases.people(), aggregation=cases.AGGREGATIONS, metric=st.sampled_from([Metric.COSINE, Metric.DOT]))
def test_a_bounded_rotation_keeps_lengths_and_turns_by_rho_at_most(
    world: People, metric: Metric, aggregation: Aggregation
) -> None:
    before = collect(*world).evidence
    after = cases.adjust("bounded_rotation", metric, aggregation, before, {"rho": 0.15})
    np.testing.assert_allclose(cases.lengths(after), cases.lengths(before.vectors), rtol=1e-5)
    assert angles(before.vectors, after).max(initial=0) <= 0.15 + 1e-5


@given(world=cases.people(), aggregation=cases.AGGREGATIONS)
def test_a_bounded_rotation_in_euclid_steps_by_rho_of_the_length_at_most(
    world: People, aggregation: Aggregation
) -> None:
    before = collect(*world).evidence
    after = cases.adjust("bounded_rotation", Metric.EUCLID, aggregation, before)
    assert (cases.lengths(after - before.vectors) <= 0.15 * cases.lengths(before.vectors) * (1 + 1e-4) + 1e-6).all()


@given(world=cases.people(), aggregation=cases.AGGREGATIONS, metric=st.sampled_from([Metric.COSINE, Metric.DOT]))
def test_torch_based_stays_within_a_max_angle_and_then_keeps_lengths(
    world: People, metric: Metric, aggregation: Aggregation
) -> None:
    before = collect(*world).evidence
    after = cases.adjust("torch_based", metric, aggregation, before, {"max_angle": 0.2})
    np.testing.assert_allclose(cases.lengths(after), cases.lengths(before.vectors), rtol=1e-5)
    assert angles(before.vectors, after).max(initial=0) <= 0.2 + 1e-5


@given(world=cases.people(), order=st.randoms(use_true_random=False), **EVERY)
def test_shuffled_and_repeated_sessions_give_the_same_bits(
    world: People, order: random.Random, name: str, metric: Metric, aggregation: Aggregation
) -> None:
    users, vectors = world
    again = {user: sessions + order.choices(sessions, k=2) for user, sessions in users.items()}
    for sessions in again.values():
        order.shuffle(sessions)
    first, second = collect(users, vectors), collect(again, vectors)
    assert first.items == second.items
    moved = cases.adjust(name, metric, aggregation, first.evidence)
    np.testing.assert_array_equal(moved, cases.adjust(name, metric, aggregation, second.evidence))


@given(world=cases.people(), order=st.randoms(use_true_random=False), **EVERY)
def test_the_order_of_entries_does_not_matter(
    world: People, order: random.Random, name: str, metric: Metric, aggregation: Aggregation
) -> None:
    evidence = collect(*world).evidence
    at = list(range(len(evidence.item)))
    order.shuffle(at)
    shuffled = replace(
        evidence,
        session=evidence.session[at],
        item=evidence.item[at],
        positive=evidence.positive[at],
        weight=evidence.weight[at],
    )
    moved = cases.adjust(name, metric, aggregation, evidence)
    np.testing.assert_array_equal(moved, cases.adjust(name, metric, aggregation, shuffled))


@given(world=cases.people(most_users=1), **EVERY)
def test_a_session_split_into_records_of_the_same_id_counts_as_one(
    world: People, name: str, metric: Metric, aggregation: Aggregation
) -> None:
    users, vectors = world
    split = {
        user: [
            part
            for one in sessions
            for part in (
                replace(one, positives=dict(list(one.positives.items())[:1])),
                replace(one, positives=dict(list(one.positives.items())[1:]), results=one.results[::2]),
            )
        ]
        for user, sessions in users.items()
    }
    moved = cases.adjust(name, metric, aggregation, collect(users, vectors).evidence)
    np.testing.assert_array_equal(moved, cases.adjust(name, metric, aggregation, collect(split, vectors).evidence))


@given(world=cases.people(), most=st.sampled_from([1, 2, 1024]), **EVERY)
def test_a_users_vectors_do_not_depend_on_who_shares_the_batch(
    world: People, most: int, name: str, metric: Metric, aggregation: Aggregation
) -> None:
    users, vectors = world
    together = collect(users, vectors)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("improvement_service.adjust.batch.ITEMS", most)
        everyone = cases.adjust(name, metric, aggregation, together.evidence)
    for user, sessions in users.items():
        alone = collect({user: sessions}, vectors)
        moved = cases.adjust(name, metric, aggregation, alone.evidence)
        theirs = [row for item in together.items if item.user_id == user for row in item.rows]
        np.testing.assert_array_equal(moved, everyone[theirs])


@pytest.mark.parametrize("dimension", [100, 384])
@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("name", ["bounded_rotation", "torch_based"])
def test_nor_do_they_where_vectors_are_as_long_as_those_of_an_embedder(
    name: str, metric: Metric, dimension: int
) -> None:
    rng = np.random.default_rng(dimension)
    vectors = {f"o{n}": rng.standard_normal((1 + n % 4, dimension)).astype(np.float32) for n in range(12)}
    users = {
        f"u{user}": [
            SessionSignals(
                session_id=f"s{number}",
                query=rng.standard_normal(dimension).astype(np.float32),
                results=[(str(o), rank) for rank, o in enumerate(rng.permutation(list(vectors))[:8], 1)],
                positives={str(o): 1.0 for o in rng.permutation(list(vectors))[:2]},
            )
            for number in range(1 + user % 3)
        ]
        for user in range(9)
    }
    together = collect(users, vectors)
    everyone = cases.adjust(name, metric, Aggregation.MIN, together.evidence)
    for user, sessions in users.items():
        moved = cases.adjust(name, metric, Aggregation.MIN, collect({user: sessions}, vectors).evidence)
        theirs = [row for item in together.items if item.user_id == user for row in item.rows]
        np.testing.assert_array_equal(moved, everyone[theirs])


@given(world=cases.people(), **EVERY)
def test_rows_without_evidence_stay_as_they_are_byte_for_byte(
    world: People, name: str, metric: Metric, aggregation: Aggregation
) -> None:
    evidence = collect(*world).evidence
    silent = evidence.item % 2 == 0
    quiet = replace(evidence, weight=np.where(silent, 0, evidence.weight).astype(np.float32))
    before = quiet.vectors.tobytes()
    moved = cases.adjust(name, metric, aggregation, quiet)
    unheard = ~np.isin(quiet.item_of_row, quiet.item[~silent])
    assert moved[unheard].tobytes() == quiet.vectors[unheard].tobytes()
    assert quiet.vectors.tobytes() == before


@given(world=cases.people(), metric=cases.METRICS)
def test_a_bounded_rotation_adds_up_over_sessions_of_the_same_query(world: People, metric: Metric) -> None:
    _, vectors = world
    parts = next(iter(vectors.values()))
    query = np.linspace(0.2, 1, parts.shape[1])
    at = [0] * len(parts)
    whole = cases.simple(parts, [query], [(0, 0, True, 2.0), (0, 0, False, 0.5)], at)
    halves = cases.simple(parts, [query, query], [(0, 0, True, 1.0), (1, 0, True, 1.0), (1, 0, False, 0.5)], at)
    moved = [cases.adjust("bounded_rotation", metric, Aggregation.MIN, evidence) for evidence in (whole, halves)]
    np.testing.assert_allclose(*moved, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["bounded_rotation", "torch_based"])
def test_no_evidence_at_all_gives_nothing_back(name: str) -> None:
    nothing = collect({}, {}).evidence
    assert cases.adjust(name, Metric.COSINE, Aggregation.MIN, nothing).shape == (0, 0)
