"""A log of searches and interactions of any length, in the format of `tideline import tideline`.

The same length and seed give the same bytes. A month of searches in the order of time, ten results each out of the
dozen that fit a query, in an order that differs from search to search. A result at rank k is looked at with probability
1 / k (a `view`), and clicked then with the relevance of the pair; a click may have a longer story. Five interactions a
search on average; queries are asked log-uniformly. The catalogue does not grow with the log, its traffic does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
DAYS = 30
OBJECTS, QUERIES, CANDIDATES, SHOWN = 50_000, 20_000, 12, 10
SEARCHES_A_USER = 20
A_SEARCH = 4.70
"""Interactions, on average."""
SURFACES, DEVICES = ("web", "app"), ("phone", "desktop", "tablet")
AFTERWARDS = {"add_to_cart": 0.25, "wishlist": 0.1, "purchase": 0.08, "share": 0.02, "negative_feedback": 0.02}
GAMMA = tuple(0.2 + 0.6 * (place * 7 % CANDIDATES) / CANDIDATES for place in range(CANDIDATES))
"""How relevant the candidates of a query are: not in the order in which they are mostly shown."""
A_USER = "user 17"
"""Somebody who searches in every log."""


@dataclass(frozen=True)
class Written:
    """What is in a log."""

    sessions: int
    interactions: int


def write(path: Path, interactions: int, seed: int = 1) -> Written:
    """Write a log with exactly so many interactions."""
    rng = Random(seed)
    users = max(round(interactions / A_SEARCH / SEARCHES_A_USER), 20)
    between = timedelta(days=DAYS) / (interactions / A_SEARCH * 1.02)
    sessions = written = 0
    with path.open("w", encoding="utf-8", buffering=1 << 20) as file:
        while written < interactions:
            lines = _search(rng, sessions, users, BEGIN + sessions * between)[: interactions - written + 1]
            file.writelines(lines)
            sessions += 1
            written += len(lines) - 1
    return Written(sessions, written)


def _search(rng: Random, number: int, users: int, at: datetime) -> list[str]:
    """Return a session, and then its interactions, as lines."""
    query = int(QUERIES ** rng.random()) - 1
    order = sorted(range(CANDIDATES), key=lambda place: place + 4 * rng.random())[:SHOWN]
    objects = [f"object {(query * 37 + place * 4099) % OBJECTS}" for place in order]
    session_id = f"s{number}"
    results = ",".join(f'{{"objectId":"{object_id}"}}' for object_id in objects)
    meta = f'{{"surface":"{rng.choice(SURFACES)}","device":"{rng.choice(DEVICES)}"}}'
    search = (
        f'{{"session":{{"sessionId":"{session_id}","userId":"user {rng.randrange(users)}","createdAt":"{_time(at)}",'
        f'"searchQuery":{{"text":{json.dumps(f"query number {query}")}}},"searchResults":[{results}],'
        f'"searchMeta":{meta}}}}}\n'
    )
    lines = [search]

    def add(position: int, kind: str, extra: str = "") -> None:
        moment = _time(at + timedelta(seconds=3 * len(lines)))
        lines.append(
            f'{{"interaction":{{"interactionId":"{len(lines)}","sessionId":"{session_id}",'
            f'"featureId":"{objects[position]}","interactionTypes":["{kind}"],"position":{position},'
            f'"occurredAt":"{moment}"{extra}}}}}\n'
        )

    for position, place in enumerate(order):
        if rng.random() * (position + 1) > 1:
            continue
        add(position, "view")
        if rng.random() < GAMMA[place]:
            add(position, "click", f',"duration":"{rng.randrange(1, 120)}s"')
            for kind, chance in AFTERWARDS.items():
                if rng.random() < chance:
                    add(position, kind)
    return lines


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"
