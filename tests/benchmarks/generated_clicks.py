"""Clicks whose examination is known: several rankers show the same results at other ranks, and a model clicks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clickstream_service.position_bias.counts import GROUPS, ClickCounts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RANKS = 10


def power_law(eta: float) -> Floats:
    return np.arange(1.0, RANKS + 1) ** -eta


@dataclass(frozen=True)
class World:
    """How people examine and click.

    `noise`: "none"; "examined": 30 % of the results that are examined and not attractive are clicked all the same
    (P = gamma + .3 (1 - gamma), the noise of Joachims et al. 2017); "share": the same, as often as makes 30 % of all
    clicks noise; "anywhere": 30 % of all clicks fall on any rank alike, examined or not.
    """

    theta: Floats
    noise: str = "none"
    sessions: int = 50_000
    queries: int = 100
    objects: int = 400
    candidates: int = 20
    rankers: int = 4
    jitter: float = 0.5
    """How much each ranker's opinion differs from relevance. One ranker alone sees relevance as it is."""
    own: float = 1.0
    """How much of a result's relevance is its own for the query, the rest being the object's for any query."""
    click_if_relevant: Floats | None = None
    click_if_irrelevant: Floats | None = None


@dataclass(frozen=True)
class Log:
    """`query`, `ranker` [S]; `item`, `clicks`, `relevance` [S, R]; `background`: the chance of a click anywhere."""

    query: NDArray[np.int64]
    item: NDArray[np.int64]
    clicks: NDArray[np.bool_]
    relevance: Floats
    background: float
    noise_share: float

    def counts(self, max_rank: int = RANKS) -> ClickCounts:
        """Count sessions as `ClickCounts.add` does, many at a time."""
        sessions, ranks = self.item.shape
        counts = ClickCounts(max_rank)
        item = _mixed(self.item.astype(np.uint64) + np.uint64(1))
        pair = _mixed(item + (self.query.astype(np.uint64) + np.uint64(1))[:, None] * np.uint64(0x9E3779B97F4A7C15))
        rank = np.broadcast_to(np.arange(1, ranks + 1), item.shape)
        group = np.broadcast_to((np.arange(sessions) % GROUPS)[:, None], item.shape)
        counts.add_counts(
            pair.ravel(),
            item.ravel(),
            rank=rank.ravel(),
            group=group.ravel(),
            impressions=np.ones(item.size),
            clicks=self.clicks.ravel(),
            sessions=sessions,
        )
        return counts


def generate(world: World, seed: int) -> Log:
    rng = np.random.default_rng(seed)
    theta, ranks = world.theta, len(world.theta)
    # Relevance of each candidate of each query: few are good.
    objects = np.argsort(rng.random((world.queries, world.objects)), axis=1)[:, : world.candidates]
    gamma = world.own * rng.beta(0.8, 2.0, objects.shape) + (1 - world.own) * rng.beta(0.8, 2.0, world.objects)[objects]
    opinion = gamma[:, None, :] + world.jitter * rng.standard_normal(
        (world.queries, world.rankers, world.candidates)
    ) * (world.rankers > 1)
    order = np.argsort(-opinion, axis=2)[:, :, :ranks]
    popularity = 1 / np.arange(1, world.queries + 1)
    query = rng.choice(world.queries, size=world.sessions, p=popularity / popularity.sum())
    ranker = rng.integers(world.rankers, size=world.sessions)
    shown = order[query, ranker]
    relevance = np.take_along_axis(gamma[query], shown, axis=1)
    chance = _if_examined(world, relevance)
    rate, background = theta * chance, 0.0
    if world.noise == "examined":
        rate = theta * (chance + 0.3 * (1 - chance))
    elif world.noise == "share":
        wanted = (theta * chance).sum() * 0.3 / 0.7
        rate = theta * (chance + wanted / (theta * (1 - chance)).sum() * (1 - chance))
    elif world.noise == "anywhere":
        background = float((theta * chance).mean() * 0.3 / 0.7)
        rate = theta * chance + background
    noise_share = 1 - float((theta * chance).sum() / rate.sum())
    clicks = rng.random(rate.shape) < rate
    return Log(query, np.take_along_axis(objects[query], shown, axis=1), clicks, relevance, background, noise_share)


def _if_examined(world: World, relevance: Floats) -> Floats:
    if world.click_if_relevant is None or world.click_if_irrelevant is None:
        return relevance
    return world.click_if_relevant * relevance + world.click_if_irrelevant * (1 - relevance)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread integers over 64 bits (splitmix64), as the hashes of names are."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
