from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickstream_service.position_bias.off_policy import OffPolicyValue, RewardModel
from tests.benchmarks import open_bandit

OPEN_BANDIT = open_bandit.folder()

REWARD, LOGGING, TARGET = [1.0, 1.0, 0.0, 1.0], [0.5, 0.25, 0.25, 0.5], [0.25, 0.5, 0.25, 0.75]
PREDICTED = {"predicted": [0.5] * 4, "predicted_target": [0.5] * 4}


def test_worked_numbers() -> None:
    # Weights .5, 2, 1, 1.5.
    value = OffPolicyValue()
    value.add(REWARD, LOGGING, TARGET, **PREDICTED)
    answer = value.value()
    assert answer.ips.value == pytest.approx(4.0 / 4)
    assert answer.snips.value == pytest.approx(4.0 / 5)
    assert answer.doubly_robust is not None
    assert answer.doubly_robust.value == pytest.approx((0.75 + 1.5 + 0 + 1.25) / 4)
    # s^2 = (.5^2 + 2^2 + 0 + 1.5^2 - 4) / 3 = 2.5 / 3;  half an interval is 1.959964 s / 2.
    assert answer.ips.high - answer.ips.value == pytest.approx(1.959964 * (2.5 / 3) ** 0.5 / 2)
    # w (r - .8) = .1, .4, -.8, .3: squares .9.
    assert answer.snips.high - answer.snips.value == pytest.approx(1.959964 * (0.9 * 4 / 3) ** 0.5 / 5)
    assert answer.effective_sample_size == pytest.approx(25 / 7.5)
    assert (answer.logged.value, answer.mean_weight, answer.largest_weight) == pytest.approx((0.75, 1.25, 2.0))


def test_the_clip_lowers_large_weights_and_counts_them() -> None:
    value = OffPolicyValue(clip=1.0)
    value.add(REWARD, LOGGING, TARGET)
    answer = value.value()
    assert answer.ips.value == pytest.approx(2.5 / 4)
    assert (answer.clipped, answer.largest_weight, answer.doubly_robust) == (0.5, 2.0, None)


def test_a_policy_has_the_value_that_it_logged() -> None:
    value = OffPolicyValue()
    value.add(REWARD, LOGGING, LOGGING)
    answer = value.value()
    assert answer.ips == pytest.approx(answer.logged)
    assert answer.snips.value == pytest.approx(answer.logged.value)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(0.01, 1), st.floats(0, 1)), min_size=2, max_size=30), st.data())
def test_pieces_add_up_to_the_whole(rows: list[tuple[float, float, float]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(rows)))
    whole, pieces = OffPolicyValue(), OffPolicyValue()
    whole.add(*np.array(rows).T)
    for piece in (rows[:cut], rows[cut:]):
        pieces.add(*np.array(piece).reshape(-1, 3).T)
    assert pieces.value().ips.high == pytest.approx(whole.value().ips.high, abs=1e-6)


@pytest.mark.parametrize("name", ["ips", "snips", "doubly_robust"])
def test_the_true_value_lies_in_its_interval_as_often_as_promised(name: str) -> None:
    rng = np.random.default_rng(0)
    logging, target, chance = rng.dirichlet(np.full(8, 2.0)), rng.dirichlet(np.full(8, 2.0)), rng.uniform(0, 0.3, 8)
    model_off = chance * 0.7
    truth, inside = float(target @ chance), []
    for _ in range(200):
        action = rng.choice(8, size=1000, p=logging)
        value = OffPolicyValue()
        value.add(
            rng.random(1000) < chance[action],
            logging[action],
            target[action],
            predicted=model_off[action],
            predicted_target=np.full(1000, target @ model_off),
        )
        found = getattr(value.value(), name)
        inside.append(found.low <= truth <= found.high)
    assert np.mean(inside) >= 0.90


def test_a_right_model_narrows_the_interval() -> None:
    rng = np.random.default_rng(0)
    chance = np.linspace(0, 1, 10)
    target = chance / chance.sum()
    action, position = rng.integers(10, size=4000), rng.integers(2, size=4000)
    reward, half = (rng.random(4000) < chance[action]).astype(float), np.arange(4000) % 2
    model = RewardModel(10, 2)
    model.add(action, position, reward, half)
    predicted, of_target = model.predict(action, position, np.tile(target, (4000, 1)), half)
    value = OffPolicyValue()
    value.add(reward, np.full(4000, 0.1), target[action], predicted=predicted, predicted_target=of_target)
    answer = value.value()
    assert answer.doubly_robust is not None
    assert answer.doubly_robust.low < target @ chance < answer.doubly_robust.high
    assert answer.doubly_robust.high - answer.doubly_robust.low < 0.8 * (answer.ips.high - answer.ips.low)


def test_a_prediction_does_not_know_its_own_half() -> None:
    model = RewardModel(2, 1, strength=1.0)
    model.add([0, 0, 1], [0, 0, 0], [1.0, 1.0, 0.0], [0, 0, 1])
    predicted, of_target = model.predict([0], [0], [[0.5, 0.5]], [0])
    # Half 1 has seen action 1 once, without reward: nothing speaks for either.
    assert (predicted.tolist(), of_target.tolist()) == ([0.0], [0.0])
    predicted, of_target = model.predict([0], [0], [[0.5, 0.5]], [1])
    assert (predicted.tolist(), of_target.tolist()) == ([1.0], [1.0])


@pytest.mark.parametrize(
    ("logging", "target", "predictions"),
    [([0.0], [0.5], {}), ([1.1], [0.5], {}), ([0.5], [-0.1], {}), ([0.5], [0.5], {"predicted": [0.1]})],
)
def test_what_is_no_probability_is_refused(
    logging: list[float], target: list[float], predictions: dict[str, list[float]]
) -> None:
    with pytest.raises(ValueError, match=r"propensities|predictions"):
        OffPolicyValue().add([1.0], logging, target, **predictions)


def test_predictions_for_some_pieces_only_are_refused() -> None:
    value = OffPolicyValue()
    value.add([1.0], [0.5], [0.5])
    with pytest.raises(ValueError, match="for all impressions"):
        value.add([1.0], [0.5], [0.5], predicted=[0.1], predicted_target=[0.1])


@pytest.mark.parametrize("seed", range(3))
def test_values_agree_with_the_open_bandit_pipeline(seed: int) -> None:
    ope = pytest.importorskip("obp.ope", reason="obp does not install here")
    rng = np.random.default_rng(seed)
    n, actions = 500, 5
    policy = rng.dirichlet(np.ones(actions), size=n)
    action, logging = rng.integers(actions, size=n), rng.uniform(0.1, 0.9, size=n)
    reward, q = rng.integers(2, size=n).astype(float), rng.random((n, actions))
    given_to = {
        "reward": reward,
        "action": action,
        "position": np.zeros(n, dtype=int),
        "pscore": logging,
        "action_dist": policy[:, :, None],
    }
    rows = np.arange(n)
    value = OffPolicyValue()
    value.add(reward, logging, policy[rows, action], predicted=q[rows, action], predicted_target=(policy * q).sum(1))
    answer = value.value()
    assert answer.doubly_robust is not None
    assert answer.ips.value == pytest.approx(ope.InverseProbabilityWeighting().estimate_policy_value(**given_to))
    snips = ope.SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**given_to)
    assert answer.snips.value == pytest.approx(snips)
    robust = ope.DoublyRobust().estimate_policy_value(**given_to, estimated_rewards_by_reg_model=q[:, :, None])
    assert answer.doubly_robust.value == pytest.approx(robust)


@pytest.mark.skipif(OPEN_BANDIT is None, reason="TIDELINE_TEST_DATA names no folder with open_bandit")
@pytest.mark.parametrize("clip", [float("inf"), 5.0])
def test_the_value_of_bts_from_what_random_logged_contains_the_true_one(clip: float) -> None:
    assert OPEN_BANDIT is not None
    logs = {name: open_bandit.load(name, OPEN_BANDIT) for name in ("random", "bts")}
    answer = open_bandit.value_of(logs["bts"], logs["random"], clip)
    truth = logs["bts"].click.mean()
    assert answer.doubly_robust is not None
    for found in (answer.ips, answer.snips, answer.doubly_robust):
        assert found.low < truth < found.high
    assert answer.ips.value == pytest.approx(0.0057, abs=2e-4)
