"""A search finds what comparing the query with every object of the user's view finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from improvement_service.domain.objects import PersonalCopy
from tests.improvement.catalogue_service import AVG, COSINE, DOT, EUCLID, MIN, NASTY_IDS, an_object
from tideline.improvement.v1.search_service_pb2 import ScoredObject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from improvement_service.domain.index import SearchIndex
    from tests.improvement.catalogue_service import CatalogueService

    Rows = NDArray[np.float64]

DIMENSION = 4
GATE = 0.6
OBJECTS = ("a", "a_b", *NASTY_IDS)
USERS = ("c", "b_c", 'it\'s\n"me" \\')

# Small whole numbers: inner products and distances are exact, and many objects score the same.
vectors = st.lists(st.integers(-3, 3), min_size=DIMENSION, max_size=DIMENSION).filter(any)


@dataclass(frozen=True)
class Copy:
    """A user's copy: its rows (used in turn for each scored part), and which queries it was learned from."""

    rows: list[list[int]]
    learned_from: list[int]


@dataclass(frozen=True)
class Thing:
    """An object, and the users' copies of it."""

    parts: list[list[int]]
    average: int | None
    colour: str
    copies: dict[str, Copy]


@dataclass(frozen=True)
class World:
    """Objects, what copies were learned from, and what is searched for by whom."""

    things: dict[str, Thing]
    learned: list[list[int]]
    query: list[int]
    colours: str | list[str] | None
    page: int


copies = st.builds(Copy, st.lists(vectors, min_size=1, max_size=2), st.lists(st.integers(0, 2), max_size=2))


@st.composite
def things(draw: st.DrawFn) -> Thing:
    parts = draw(st.lists(vectors, min_size=1, max_size=3))
    # Parts that cancel out have no average direction: such an object has to bring its own.
    directions = np.array([np.array(part) / np.linalg.norm(part) for part in parts])
    cancel = np.linalg.norm(directions.mean(axis=0)) < 0.01
    average = draw(st.integers(0, len(parts) - 1) if cancel else st.none() | st.integers(0, len(parts) - 1))
    colour = draw(st.sampled_from(["red", "green", "blue"]))
    return Thing(parts, average, colour, draw(st.dictionaries(st.sampled_from(USERS), copies)))


worlds = st.builds(
    World,
    things=st.dictionaries(st.sampled_from(OBJECTS), things(), min_size=1),
    learned=st.lists(vectors, min_size=3, max_size=3),
    query=vectors,
    colours=st.sampled_from([None, "red", ["green", "blue"]]),
    page=st.integers(1, 9),
)


@pytest.mark.parametrize("aggregation", [MIN, AVG])
@pytest.mark.parametrize("metric", [COSINE, DOT, EUCLID])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=worlds)
async def test_a_search_equals_brute_force_over_the_users_view(
    served: CatalogueService, collection_name: str, metric: int, aggregation: int, world: World
) -> None:
    adjuster = {"gate": GATE}
    index = await served.create(collection_name, DIMENSION, metric=metric, aggregation=aggregation, adjuster=adjuster)
    await served.delete(collection_name, *OBJECTS)
    objects = [
        an_object(object_id, *thing.parts, average=thing.average, payload={"colour": thing.colour})
        for object_id, thing in world.things.items()
    ]
    await served.upsert(collection_name, *objects)
    for user_id in USERS:
        await give_copies(served, index, user_id, world)
    for user_id in ("", "somebody else", *USERS):
        expected = brute_force(world, user_id, metric, aggregation)
        found = await all_pages(served, collection_name, user_id, world)
        same(found, expected, exact=metric != COSINE and aggregation == MIN)


async def give_copies(served: CatalogueService, index: SearchIndex, user_id: str, world: World) -> None:
    copied = {object_id: thing.copies[user_id] for object_id, thing in world.things.items() if user_id in thing.copies}
    originals = await served.vectors.fetch_originals(index, copied)
    personal = [
        PersonalCopy(
            object_id,
            originals[object_id].base_hash,
            in_turn(copy, len(originals[object_id].parts)).astype(np.float32),
            tuple(copy.learned_from),
        )
        for object_id, copy in copied.items()
    ]
    await served.vectors.replace_personal(index, user_id, personal, np.array(world.learned, np.float32))
    await served.versions.bump(index.name, [user_id], await served.vectors.clock())


async def all_pages(served: CatalogueService, name: str, user_id: str, world: World) -> list[ScoredObject]:
    asked = {} if world.colours is None else {"payload_filter": {"colour": world.colours}}
    found: list[ScoredObject] = []
    token = ""
    while token or not found:
        page = await served.search(name, world.query, user_id, limit=world.page, page_token=token, **asked)
        assert len(page.results) == world.page or not page.next_page_token
        found += page.results
        token = page.next_page_token
        if not token:
            break
    return found


def brute_force(world: World, user_id: str, metric: int, aggregation: int) -> list[ScoredObject]:
    query = np.array(world.query, np.float64)
    results = []
    for object_id, thing in world.things.items():
        if world.colours is not None and thing.colour not in world.colours:
            continue
        rows = scored_rows(thing, metric, aggregation)
        base = score(metric, query, rows)
        copy = thing.copies.get(user_id)
        personal = copy is not None and any(
            cosine(query, np.array(world.learned[one], np.float64)) >= GATE - 1e-6 for one in copy.learned_from
        )
        own = score(metric, query, in_turn(copy, len(rows))) if copy and personal else base
        results.append(ScoredObject(object_id=object_id, score=own, base_score=base, personal=personal))
    return sorted(results, key=lambda result: (-result.score, result.object_id))


def same(found: Sequence[ScoredObject], expected: Sequence[ScoredObject], *, exact: bool) -> None:
    """Compare results; scores that differ by rounding alone may come in either order."""
    if exact:
        assert [result.object_id for result in found] == [result.object_id for result in expected]
    assert sorted(result.object_id for result in found) == sorted(result.object_id for result in expected)
    by_id: Mapping[str, ScoredObject] = {result.object_id: result for result in expected}
    for result, at_this_rank in zip(found, expected, strict=True):
        wanted = by_id[result.object_id]
        assert result.personal == wanted.personal
        assert result.score == pytest.approx(wanted.score, abs=2e-6)
        assert result.base_score == pytest.approx(wanted.base_score, abs=2e-6)
        assert result.score == pytest.approx(at_this_rank.score, abs=2e-6)


def in_turn(copy: Copy, count: int) -> Rows:
    return np.array([copy.rows[place % len(copy.rows)] for place in range(count)], np.float64)


def scored_rows(thing: Thing, metric: int, aggregation: int) -> Rows:
    parts = np.array(thing.parts, np.float64)
    if len(parts) == 1:
        return parts
    if aggregation == MIN:
        return parts if thing.average is None else np.delete(parts, thing.average, axis=0)
    if thing.average is not None:
        return parts[[thing.average]]
    if metric == COSINE:
        parts /= np.linalg.norm(parts, axis=1, keepdims=True)
    return parts.mean(axis=0, keepdims=True)


def score(metric: int, query: Rows, rows: Rows) -> float:
    if metric == COSINE:
        return max(cosine(query, row) for row in rows)
    if metric == DOT:
        return max(float(query @ row) for row in rows)
    return max(-float(np.sqrt(((query - row) ** 2).sum())) for row in rows)


def cosine(a: Rows, b: Rows) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
