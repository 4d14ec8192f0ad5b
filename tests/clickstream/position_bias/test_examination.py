from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickstream_service.position_bias.counts import ClickCounts
from clickstream_service.position_bias.estimate import Examination, Floor, Method, estimate, never_rising
from clickstream_service.position_bias.intervention import harvest
from clickstream_service.position_bias.trust import TrustBias, affine_relevance
from tests.benchmarks import open_bandit
from tests.benchmarks.generated_clicks import RANKS, World, generate, power_law
from tests.benchmarks.position_bias import SHAPES, STEP, TRUST, Row, compared, one
from tideline.errors import InvalidField

OPEN_BANDIT = open_bandit.folder()
REPETITIONS = 6
"""Enough to see a method that is off; fifty of each are in `make quality`."""


def repeated(world: World, method: Method | None = None, trust: TrustBias | None = None) -> Row:
    return Row([one(world, method, trust, seed) for seed in range(REPETITIONS)])


@pytest.mark.parametrize("noise", ["none", "examined", "share"])
@pytest.mark.parametrize("shape", SHAPES)
def test_known_propensities_are_found_within_ten_percent_and_lie_in_their_interval(shape: str, noise: str) -> None:
    row = repeated(World(SHAPES[shape], noise))
    assert {outcome.method for outcome in row.outcomes} == {Method.INTERVENTION_HARVESTING}
    assert np.median(row.errors) <= 0.10
    assert row.coverage.mean() >= 0.85


def test_a_curve_that_is_no_power_law_is_found_as_well() -> None:
    row = repeated(World(STEP))
    assert np.median(row.errors) <= 0.10
    assert row.coverage.mean() >= 0.85


def test_a_flat_curve_is_found_flat() -> None:
    found = estimate(generate(World(np.ones(RANKS)), 0).counts())
    assert found.examination.min() > 0.97
    assert found.high.min() > 0.99


def test_clicks_that_fall_anywhere_are_found_and_taken_off() -> None:
    world = World(power_law(1.0), "anywhere")
    log = generate(world, 0)
    found = estimate(log.counts())
    left_in = np.exp(harvest(log.counts().cells()).curve().log_examination)
    assert found.background == pytest.approx(log.background, rel=0.25)
    assert np.abs(found.examination / world.theta - 1).max() < 0.15
    assert left_in[-1] / world.theta[-1] > 1.5


def test_one_pair_at_two_ranks_gives_the_ratio_of_its_click_rates() -> None:
    counts = ClickCounts(2)
    counts.add_counts(
        [1 << 40] * 2,
        [1] * 2,
        rank=[1, 2],
        group=[0, 1],
        impressions=[10**7, 10**6],
        clicks=[4 * 10**6, 10**5],
        sessions=10**7,
    )
    assert np.exp(harvest(counts.cells()).curve().log_examination) == pytest.approx([0.25], rel=1e-4)


def test_relevance_drops_out_however_it_goes_with_rank() -> None:
    # Good results mostly at rank 1, poor ones mostly at rank 2: the raw click rates would say .033, the truth is .5.
    counts = ClickCounts(2)
    counts.add_counts(
        [1 << 40] * 2 + [2 << 40] * 2,
        [1, 1, 2, 2],
        rank=[1, 2, 1, 2],
        group=[0, 1, 2, 3],
        impressions=[10**6, 10**5, 10**5, 10**6],
        clicks=[6 * 10**5, 3 * 10**4, 2 * 10**3, 10**4],
        sessions=10**6,
    )
    assert np.exp(harvest(counts.cells()).curve().log_examination) == pytest.approx([0.5], rel=1e-3)


def test_where_results_never_move_objects_tell_the_ranks_apart() -> None:
    world = World(power_law(1.0), queries=40_000, objects=200, own=0.0, rankers=1, sessions=20_000)
    found = estimate(generate(world, 0).counts())
    assert found.method is Method.REGRESSION_EM
    assert np.abs(found.examination / world.theta - 1).max() < 0.15


def test_expectation_maximisation_agrees_with_harvesting_where_both_have_data() -> None:
    world = World(power_law(1.0), queries=10)
    assert np.median(repeated(world, Method.REGRESSION_EM).errors) < 0.10


def test_few_sessions_leave_the_prior_and_say_so() -> None:
    found = estimate(generate(World(power_law(1.0), sessions=100), 0).counts())
    assert (found.method, found.below_floor) == (Method.PRIOR, True)
    assert found.low[9] < 0.1 < found.high[9]


def test_without_any_data_the_prior_is_one_over_rank() -> None:
    found = estimate(ClickCounts(5))
    assert found.examination == pytest.approx(1 / np.arange(1, 6))
    assert (found.below_floor, found.effective_sample_size) == (True, 0.0)


def test_a_single_rank_is_examined_by_definition() -> None:
    counts = ClickCounts(1)
    for number in range(300):
        counts.add(f"s{number}", "q", [(1, f"o{number % 3}", number % 5 == 0)])
    assert estimate(counts).examination.tolist() == [1.0]


def test_results_that_never_move_leave_the_prior_and_say_so() -> None:
    counts = ClickCounts(5)
    for number in range(1000):
        counts.add(f"s{number}", "q", [(rank, f"o{rank}", (number + rank) % 7 == 0) for rank in range(1, 6)])
    found = estimate(counts)
    assert (found.method, found.below_floor, found.sessions) == (Method.PRIOR, True, 1000)
    assert found.impressions.tolist() == [1000] * 5


def test_a_method_that_is_asked_for_is_used_when_it_has_data() -> None:
    counts = generate(World(power_law(2.0), sessions=5000), 0).counts()
    prior = estimate(counts, method=Method.PRIOR)
    assert (prior.method, prior.below_floor) == (Method.PRIOR, False)
    # The slope of the prior is learnt all the same.
    assert prior.examination[4] < 1 / 15
    assert estimate(counts, method=Method.REGRESSION_EM).method is Method.REGRESSION_EM
    assert estimate(counts, floor=Floor(sessions=10_000)).below_floor


def test_the_same_counts_and_seed_give_the_same_answer() -> None:
    log = generate(World(power_law(1.0), sessions=5000), 0)
    first, again, other = (estimate(log.counts(), seed=seed) for seed in (1, 1, 2))
    assert first.low.tolist() == again.low.tolist()
    assert first.low.tolist() != other.low.tolist()
    assert first.examination.tolist() == other.examination.tolist()


def test_sessions_that_repeat_each_other_are_worth_fewer() -> None:
    log = generate(World(power_law(1.0), sessions=5000), 0)
    alone = estimate(log.counts())
    tenfold = ClickCounts(RANKS)
    for number in range(500):
        # The same user ten times over: the same session in the same group.
        shown = [(rank + 1, f"o{log.item[number, rank]}", bool(log.clicks[number, rank])) for rank in range(RANKS)]
        for _ in range(10):
            tenfold.add(f"u{number}", f"q{log.query[number]}", shown)
    assert estimate(tenfold).effective_sample_size < 0.3 * alone.effective_sample_size


def test_ranks_nobody_clicked_get_a_wide_interval_and_not_zero() -> None:
    world = World(power_law(1.0), sessions=5000)
    log = generate(world, 0)
    log.clicks[:, 7:] = False
    found = estimate(replace(log).counts(max_rank=15))
    assert 0 < found.low[9] < found.examination[9] < 0.1
    assert 0 < found.low[14] < found.high[14] <= found.high[9]


def test_uncorrected_trust_shows_as_a_steeper_curve_and_known_trust_is_taken_out() -> None:
    world = World(
        power_law(1.0),
        click_if_relevant=np.array(TRUST.click_if_relevant),
        click_if_irrelevant=np.array(TRUST.click_if_irrelevant),
    )
    log = generate(world, 0)
    plain, corrected = (estimate(log.counts(), trust=trust) for trust in (None, TRUST))
    assert plain.examination[9] / world.theta[9] < 0.6
    assert (plain.trust_corrected, corrected.trust_corrected) == (False, True)
    assert np.abs(corrected.examination / world.theta - 1).max() < 0.10
    last = np.full(len(log.clicks), RANKS)
    relevance = affine_relevance(log.clicks[:, -1], last, corrected.examination, TRUST).mean()
    assert relevance == pytest.approx(log.relevance[:, -1].mean(), rel=0.10)


def test_trust_cannot_correct_regression_em() -> None:
    with pytest.raises(InvalidField) as refused:
        estimate(ClickCounts(), method=Method.REGRESSION_EM, trust=TRUST)
    assert refused.value.field == "trust_bias"


@pytest.mark.parametrize(
    ("relevant", "irrelevant"), [((), ()), ((0.9,), (0.1, 0.1)), ((0.5,), (0.5,)), ((1.2,), (0.1,)), ((0.9,), (-0.1,))]
)
def test_trust_that_is_no_trust_is_refused(relevant: tuple[float, ...], irrelevant: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="trust needs"):
        TrustBias(relevant, irrelevant)


LOGS = st.lists(st.floats(-5, 2), min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(LOGS, st.data())
def test_the_projection_never_rises_keeps_order_and_leaves_falling_curves_alone(
    logs: list[float], data: st.DataObject
) -> None:
    lower = np.array(logs)
    count = len(logs)
    upper = lower + np.array(data.draw(st.lists(st.floats(0, 2), min_size=count, max_size=count)))
    weight = np.array(data.draw(st.lists(st.floats(1, 100), min_size=count + 1, max_size=count + 1)))
    low, high = never_rising(lower, weight), never_rising(upper, weight)
    assert low[0] == high[0] == 1
    assert np.all(np.diff(low) <= 1e-12)
    assert np.all(low <= high + 1e-9)
    assert never_rising(np.log(low[1:]), weight) == pytest.approx(low)


@pytest.mark.skipif(OPEN_BANDIT is None, reason="TIDELINE_TEST_DATA names no folder with open_bandit")
@pytest.mark.parametrize("policy", ["random", "bts"])
def test_no_slope_is_invented_where_positions_are_nearly_alike(policy: str) -> None:
    assert OPEN_BANDIT is not None
    found: Examination = estimate(open_bandit.load(policy, OPEN_BANDIT).counts())
    assert found.method is Method.INTERVENTION_HARVESTING
    assert found.high.tolist() == [1.0, 1.0, 1.0]


def test_the_bench_sees_a_truth_outside_its_interval() -> None:
    world = World(power_law(1.0), sessions=20_000)
    found = estimate(generate(world, 0).counts())
    assert compared(found, replace(world, theta=power_law(2.0))).inside.mean() < 0.5
