from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickstream_service.position_bias.counts import ClickCounts

if TYPE_CHECKING:
    import random

Shown = list[tuple[int, str, bool]]
SESSIONS = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", "u3"]),
        st.sampled_from(["red shoes", "lamp"]),
        st.lists(
            st.tuples(st.integers(1, 6), st.sampled_from("abcdef"), st.booleans()),
            max_size=6,
            unique_by=lambda shown: shown[:2],
        ),
    ),
    max_size=12,
)


def counted(sessions: list[tuple[str, str, Shown]], max_rank: int = 5, max_cells: int = 10**6) -> ClickCounts:
    counts = ClickCounts(max_rank, max_cells)
    for unit, query, shown in sessions:
        counts.add(unit, query, shown)
    return counts


def rows(counts: ClickCounts) -> list[tuple[float, ...]]:
    cells = counts.cells()
    columns = (cells.pair, cells.rank, cells.group, cells.impressions, cells.clicks, cells.item[cells.pair])
    return [tuple(row) for row in np.stack(columns, axis=1).tolist()]


@settings(max_examples=50, deadline=None)
@given(SESSIONS)
def test_every_impression_near_the_top_is_counted_once(sessions: list[tuple[str, str, Shown]]) -> None:
    counts = counted(sessions)
    cells = counts.cells()
    near = [(rank, clicked) for _, _, shown in sessions for rank, _, clicked in shown if rank <= 5]
    assert counts.sessions == len(sessions)
    assert cells.impressions.sum() == counts.impressions_by_rank.sum() == len(near)
    assert cells.clicks.sum() == counts.clicks_by_rank.sum() == sum(clicked for _, clicked in near)
    held = cells.whole()
    assert cells.pairs == len({(query, item) for _, query, shown in sessions for rank, item, _ in shown if rank <= 5})
    assert len(held.pair) == len({(q, item, rank) for _, q, shown in sessions for rank, item, _ in shown if rank <= 5})
    assert len(set(cells.item.tolist())) == len(
        {item for _, _, shown in sessions for rank, item, _ in shown if rank <= 5}
    )


@settings(max_examples=50, deadline=None)
@given(SESSIONS, st.integers(1, 12), st.randoms())
def test_the_order_of_sessions_changes_nothing_even_where_pairs_are_left_out(
    sessions: list[tuple[str, str, Shown]], max_cells: int, order: random.Random
) -> None:
    shuffled = sessions.copy()
    order.shuffle(shuffled)
    forward, backward = counted(sessions, max_cells=max_cells), ClickCounts(5, max_cells)
    for unit, query, shown in shuffled:
        backward.add(unit, query, shown)
        backward.cells()  # gathers after each session
    assert rows(forward) == rows(backward)


def test_memory_stays_flat_and_a_pair_that_is_kept_keeps_all_its_impressions() -> None:
    sessions = [(f"s{n}", f"q{n % 500}", [(n // 500 % 4 + 1, "a", n % 3 == 0)]) for n in range(8000)]
    everything, sampled = counted(sessions), counted(sessions, max_cells=2000)
    cells = sampled.cells()
    assert 500 < len(cells.pair) <= 2000
    assert sampled.impressions_by_rank.sum() == 8000
    assert set(np.bincount(cells.pair, cells.impressions).tolist()) == {16.0}
    assert everything.cells().impressions.sum() == 8000


def test_rows_that_are_already_summed_count_like_sessions() -> None:
    counts = ClickCounts(3)
    counts.add_counts(
        [7 << 40] * 2, [1] * 2, rank=[1, 9], group=[3, 3], impressions=[10, 10], clicks=[4, 4], sessions=10
    )
    cells = counts.cells()
    assert (cells.rank.tolist(), cells.group.tolist()) == ([0], [3])
    assert (cells.impressions.tolist(), cells.clicks.tolist(), counts.sessions) == ([10.0], [4.0], 10)


@pytest.mark.parametrize(("group", "impressions", "clicks"), [(64, 1, 0), (-1, 1, 0), (0, 1, 2), (0, -1, -1)])
def test_rows_that_cannot_be_are_refused(group: int, impressions: int, clicks: int) -> None:
    with pytest.raises(ValueError, match=r"a (row|group)"):
        ClickCounts().add_counts(
            [1], [1], rank=[1], group=[group], impressions=[impressions], clicks=[clicks], sessions=1
        )
