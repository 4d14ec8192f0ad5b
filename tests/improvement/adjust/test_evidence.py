"""Which results of a session become evidence, and with what weight."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from improvement_service.adjust.evidence import Collected, SessionSignals, angles, collect

VECTORS = {name: np.eye(6, dtype=np.float32)[[n]] for n, name in enumerate("abcdef")}
SESSION = SessionSignals(
    session_id="s",
    query=np.ones(6, dtype=np.float32),
    results=[("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)],
    positives={"d": 2.0},
    acted_on=frozenset("b"),
)


def said(collected: Collected) -> dict[str, tuple[bool, float]]:
    evidence = collected.evidence
    return {
        collected.items[item].object_id: (bool(positive), round(float(weight), 4))
        for item, positive, weight in zip(evidence.item, evidence.positive, evidence.weight, strict=True)
    }


def test_results_above_the_last_positive_that_were_not_acted_on_are_negatives() -> None:
    assert said(collect({"u": [SESSION]}, VECTORS)) == {"a": (False, 1.0), "c": (False, 0.3333), "d": (True, 2.0)}


def test_how_likely_a_rank_was_seen_can_be_given() -> None:
    collected = collect({"u": [SESSION]}, VECTORS, lambda rank: 0.9**rank)
    assert said(collected)["c"] == (False, 0.729)


def test_a_session_that_knows_how_likely_ranks_were_seen_goes_by_that() -> None:
    known = replace(SESSION, examination=(1.0, 0.8, 0.7))
    assert said(collect({"u": [known]}, VECTORS)) == {"a": (False, 1.0), "c": (False, 0.7), "d": (True, 2.0)}
    shorter = replace(SESSION, examination=(1.0, 0.6))
    assert said(collect({"u": [shorter]}, VECTORS))["c"] == (False, 0.4)


def test_a_positive_that_was_not_among_the_results_counts_and_makes_no_negatives() -> None:
    assert said(collect({"u": [replace(SESSION, positives={"f": 1.0})]}, VECTORS)) == {"f": (True, 1.0)}


def test_a_session_without_a_positive_says_nothing() -> None:
    assert collect({"u": [replace(SESSION, positives={"d": 0.0})]}, VECTORS).items == ()


def test_what_was_turned_down_is_a_negative_for_sure_wherever_it_was_shown() -> None:
    turned_down = replace(SESSION, turned_down=frozenset("cef"))
    assert said(collect({"u": [turned_down]}, VECTORS)) == {
        "a": (False, 1.0),
        "c": (False, 1.0),
        "d": (True, 2.0),
        "e": (False, 1.0),
        "f": (False, 1.0),
    }
    assert said(collect({"u": [replace(SESSION, turned_down=frozenset("d"))]}, VECTORS))["d"] == (True, 2.0)
    assert collect({"u": [replace(turned_down, positives={})]}, VECTORS).items == ()


def test_objects_without_vectors_are_left_out_but_still_show_how_far_was_read() -> None:
    known = {name: vector for name, vector in VECTORS.items() if name != "d"}
    assert said(collect({"u": [SESSION]}, known)) == {"a": (False, 1.0), "c": (False, 0.3333)}


def test_an_item_names_its_rows_and_the_sessions_it_learned_from() -> None:
    parts = VECTORS | {"a": np.eye(6, dtype=np.float32)[:2]}
    other = replace(SESSION, session_id="r", positives={"a": 1.0})
    collected = collect({"u": [SESSION, other], "v": [SESSION]}, parts)
    first = collected.items[0]
    assert (first.user_id, first.object_id, first.rows) == ("u", "a", range(2))
    assert [collected.sessions[n] for n in first.sessions] == [("u", "r"), ("u", "s")]
    assert {item.object_id for item in collected.items if item.user_id == "v"} == {"a", "c", "d"}
    np.testing.assert_array_equal(collected.evidence.vectors[first.rows.start : first.rows.stop], parts["a"])


def test_evidence_that_does_not_fit_together_is_refused() -> None:
    evidence = collect({"u": [SESSION]}, VECTORS).evidence
    with pytest.raises(ValueError, match="session that has no query"):
        replace(evidence, session=evidence.session + 5)
    with pytest.raises(ValueError, match="item that has no row"):
        replace(evidence, item=evidence.item + 50)
    with pytest.raises(ValueError, match="finite"):
        replace(evidence, weight=np.full_like(evidence.weight, np.nan))
    with pytest.raises(ValueError, match="dimension"):
        replace(evidence, queries=evidence.queries[:, :2])


def test_angles_are_exact_for_small_and_large_turns_and_zero_for_zero_rows() -> None:
    turns = np.array([1e-6, 0.15, np.pi / 2, np.pi])
    before = np.tile(np.array([[3.0, 0.0]], dtype=np.float32), (5, 1))
    after = np.vstack([np.stack([np.cos(turns), np.sin(turns)], axis=1), [[0, 0]]]).astype(np.float32)
    np.testing.assert_allclose(angles(before, after), [*turns, 0], atol=1e-7)


def test_building_evidence_loads_no_torch() -> None:
    modules = "improvement_service.adjust.evidence, improvement_service.adjust.registry"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
