"""Made-up logs, and the pairs that they hold, counted in the simplest way."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

STRENGTHS = {"click": 1.0, "purchase": 2.0, "view": 0.0, "skip": -0.5, "negative_feedback": -1.0}


class Made(NamedTuple):
    session_id: str
    user_id: str
    query: str
    shown: list[str]
    done: list[tuple[str, str]]


def a_log(seed: int, sessions: int) -> list[Made]:
    chance = random.Random(seed)
    made = []
    for number in range(sessions):
        shown = chance.sample([f"o{each}" for each in range(12)], chance.randint(1, 8))
        user = chance.choice(["", *(f"u{each}" for each in range(15))])
        acted = chance.sample([*shown, "elsewhere"], chance.randint(0, min(3, len(shown))))
        done = [(each, chance.choice(list(STRENGTHS))) for each in acted]
        made.append(Made(f"s{number}", user, f"q{chance.randrange(6)}", shown, done))
    return made


def expected(log: Sequence[Made]) -> dict[tuple[str, str], list[str]]:
    """Return the negatives of each (query, positive)."""
    meant: dict[str, set[str]] = defaultdict(set)
    passed_over: dict[tuple[str, str], Counter[str]] = {}
    for search in log:
        worth: Counter[str] = Counter()
        for object_id, event_type in search.done:
            worth[object_id] += STRENGTHS[event_type]  # type: ignore[assignment]
        positives = {object_id for object_id, total in worth.items() if total > 0}
        meant[search.query] |= positives
        places = [place for place, object_id in enumerate(search.shown) if object_id in positives]
        above = search.shown[: max(places, default=0)]
        for positive in positives:
            passed_over.setdefault((search.query, positive), Counter()).update(set(above) - positives)
    return {
        (query, positive): [
            object_id
            for object_id, _ in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
            if object_id not in meant[query]
        ]
        for (query, positive), counts in passed_over.items()
    }
