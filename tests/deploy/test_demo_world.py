"""The demo's world, and the arithmetic that the demo and the quality harness report with."""

from __future__ import annotations

import json
import tomllib
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.catalogue.make_catalogue import SEED
from deploy.local.catalogue.shop import make_products, make_queries
from deploy.local.clicks import clicked_places
from deploy.local.measure import bootstrap, ndcg
from deploy.local.world import CATALOGUE, ROLES, load

if TYPE_CHECKING:
    from pathlib import Path


def test_the_demo_ships_a_thousand_products_and_fifty_shoppers_in_two_megabytes() -> None:
    world = load(CATALOGUE)
    assert len({item["object_id"] for item in world.items}) == len(world.items) >= 1000
    assert len({item["title"] for item in world.items}) == len(world.items)
    assert len(world.users) >= 50
    assert world.item_vectors.shape[1] == world.query_vectors.shape[1] == 384
    assert np.linalg.norm(world.item_vectors, axis=1) == pytest.approx(1, abs=1e-3)
    assert sum(file.stat().st_size for file in CATALOGUE.iterdir() if file.is_file()) <= 2_000_000
    for user in world.users:
        assert all(user.relevant[query] for role in ROLES for query in user.queries[role])
        assert all(user.queries[role] for role in ROLES)


def test_the_shipped_world_is_what_the_script_makes() -> None:
    words = tomllib.loads((CATALOGUE / "words.toml").read_text())
    shipped = json.loads((CATALOGUE / "world.json").read_text())
    assert [item["text"] for item in shipped["items"]] == [p.text for p in make_products(words, Random(SEED))]
    assert shipped["queries"] == [query.text for query in make_queries(words)]


def test_a_world_whose_vectors_do_not_fit_its_lists_is_refused(tmp_path: Path) -> None:
    (tmp_path / "world.json").write_text('{"items": [], "queries": ["q"], "users": []}')
    np.savez(tmp_path / "vectors.npz", items=np.zeros((1, 4)), queries=np.zeros((1, 4)))
    with pytest.raises(ValueError, match="other rows"):
        load(tmp_path)


def test_ndcg_of_known_rankings() -> None:
    assert ndcg([1, 2, 3], {1, 2, 3}) == pytest.approx(1)
    assert ndcg([9, 1], {1}) == pytest.approx(1 / np.log2(3))
    assert ndcg([9, 8], {1}) == 0
    assert ndcg(list(range(10)), set(range(50))) == pytest.approx(1), "no ranking of ten can show more"
    assert ndcg([*range(100, 110), 1], {1}) == 0, "the eleventh result does not count"


@given(st.permutations(range(20)), st.integers(1, 19), st.data())
def test_moving_a_wanted_result_past_an_unwanted_one_never_lowers_ndcg(
    ranking: list[int], place: int, data: st.DataObject
) -> None:
    others = sorted(set(ranking) - {ranking[place - 1], ranking[place]})
    relevant = {ranking[place], *data.draw(st.sets(st.sampled_from(others)))}
    better = ranking.copy()
    better[place - 1], better[place] = ranking[place], ranking[place - 1]
    assert ndcg(better, relevant) >= ndcg(ranking, relevant)


def test_clicks_follow_place_and_taste() -> None:
    chance, rounds = Random(3), 20_000
    counts = np.zeros(4)
    for _ in range(rounds):
        counts[clicked_places([10, 11, 12, 13], {11, 13}, chance)] += 1
    assert counts / rounds == pytest.approx([0.1, 0.9 / 2, 0.1 / 3, 0.9 / 4], abs=0.015)


def test_the_interval_of_a_mean_narrows_with_more_users() -> None:
    few, many = (bootstrap(np.random.default_rng(1).normal(1, 1, users).tolist()) for users in (20, 2000))
    assert few.low < few.mean < few.high
    assert many.low < 1 < many.high
    assert many.high - many.low < (few.high - few.low) / 5
