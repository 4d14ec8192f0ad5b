"""The Open Bandit sample, where this machine has it: real clicks with position and logged propensity."""

from __future__ import annotations

import csv
import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clickstream_service.position_bias.counts import ClickCounts
from clickstream_service.position_bias.off_policy import OffPolicyValue, PolicyValue, RewardModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

ITEMS, POSITIONS = 34, 3


def folder() -> Path | None:
    """The folder that TIDELINE_TEST_DATA names, else the one beside the repository, if it holds the sample."""
    named = os.environ.get("TIDELINE_TEST_DATA")
    data = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"
    return data / "open_bandit" if (data / "open_bandit").is_dir() else None


@dataclass(frozen=True)
class Impressions:
    """One row an impression, [N]: item and position from 0, click, and the probability the policy gave the item."""

    item: NDArray[np.int64]
    position: NDArray[np.int64]
    click: NDArray[np.float64]
    propensity: NDArray[np.float64]

    def counts(self) -> ClickCounts:
        counts = ClickCounts(POSITIONS)
        rows = zip(self.item.tolist(), self.position.tolist(), self.click.tolist(), strict=True)
        for number, (item, position, click) in enumerate(rows):
            counts.add(str(number), "", [(position + 1, str(item), click > 0)])
        return counts


def load(policy: str, data: Path) -> Impressions:
    with gzip.open(data / f"men_{policy}.csv.gz", "rt") as lines:
        rows = list(csv.DictReader(lines))
    return Impressions(
        np.array([int(row["item_id"]) for row in rows]),
        np.array([int(row["position"]) - 1 for row in rows]),
        np.array([float(row["click"]) for row in rows]),
        np.array([float(row["propensity_score"]) for row in rows]),
    )


def policy_of(target: Impressions) -> NDArray[np.float64]:
    """How often a policy chose each item [items, positions], at each position."""
    policy = np.zeros((ITEMS, POSITIONS))
    np.add.at(policy, (target.item, target.position), 1.0)
    shares: NDArray[np.float64] = policy / policy.sum(0)
    return shares


def value_of(target: Impressions, logged: Impressions, clip: float = float("inf")) -> PolicyValue:
    """What `target`'s policy, as often as it chose each item at each position, would have earned in `logged`."""
    policy = policy_of(target)
    half = np.arange(len(logged.item)) % 2
    model = RewardModel(ITEMS, POSITIONS)
    model.add(logged.item, logged.position, logged.click, half)
    predicted, of_target = model.predict(logged.item, logged.position, policy[:, logged.position].T, half)
    value = OffPolicyValue(clip)
    value.add(
        logged.click,
        logged.propensity,
        policy[logged.item, logged.position],
        predicted=predicted,
        predicted_target=of_target,
    )
    return value.value()
