"""Writing users' copies: all or nothing of what a user has, and nothing of anybody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from improvement_service.domain.objects import PersonalCopy, UserCopies
from improvement_service.vectors import schema
from tests.improvement.catalogue_service import AVG, DOT, NASTY_IDS, an_object

if TYPE_CHECKING:
    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.overlay import Overlay
    from tests.improvement.catalogue_service import CatalogueService

USERS = ("b_c", "c", *NASTY_IDS[:6])


def content(overlay: Overlay | None) -> dict[str, tuple[bytes, frozenset[bytes]]]:
    """Return each copy's rows, and the queries it was learned from."""
    if overlay is None:
        return {}
    rows = np.split(overlay.copies, overlay.starts[1:])
    return {
        object_id: (
            rows[place].tobytes(),
            frozenset(overlay.queries[query].tobytes() for copy, query in overlay.learned if copy == place),
        )
        for place, object_id in enumerate(overlay.object_ids)
    }


def expected(user: UserCopies) -> dict[str, tuple[bytes, frozenset[bytes]]]:
    return {
        copy.object_id: (copy.parts.tobytes(), frozenset(user.queries[one].tobytes() for one in copy.learned_from))
        for copy in user.copies
    }


async def random_copies(
    served: CatalogueService, index: SearchIndex, user_id: str, object_ids: list[str], seed: int
) -> UserCopies:
    rng = np.random.default_rng(seed)
    originals = await served.vectors.fetch_originals(index, object_ids)
    queries = rng.standard_normal((3, index.dimension)).astype(np.float32)
    copies = [
        PersonalCopy(
            object_id,
            originals[object_id].base_hash,
            (originals[object_id].parts + rng.standard_normal(index.dimension)).astype(np.float32),
            tuple(rng.choice(3, rng.integers(4), replace=False).tolist()),
        )
        for object_id in object_ids
    ]
    return UserCopies(user_id, tuple(copies), queries)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    runs=st.lists(
        st.dictionaries(
            st.sampled_from(USERS), st.lists(st.sampled_from(NASTY_IDS), unique=True, max_size=6), min_size=1
        ),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 2**20),
)
async def test_a_user_has_what_the_last_run_wrote_and_originals_stay_as_they_are(
    served: CatalogueService, collection_name: str, runs: list[dict[str, list[str]]], seed: int
) -> None:
    index = await served.create(collection_name, 3, metric=DOT)
    objects = [
        an_object(object_id, *[[number, part, 1] for part in range(1 + number % 3)])
        for number, object_id in enumerate(NASTY_IDS)
    ]
    await served.upsert(collection_name, *objects)
    before = await served.get(collection_name, NASTY_IDS)
    for user_id in USERS:
        await served.vectors.drop_user(index, user_id)
    has: dict[str, UserCopies] = {}
    for number, run in enumerate(runs):
        users = [await random_copies(served, index, user_id, chosen, seed + number) for user_id, chosen in run.items()]
        gone = sum(
            len(expected(has[user.user_id]).keys() - expected(user).keys()) for user in users if user.user_id in has
        )
        assert await served.vectors.replace_personal_many(index, users) == gone
        # Doing it again changes nothing.
        assert await served.vectors.replace_personal_many(index, users) == 0
        has |= {user.user_id: user for user in users}
    for user_id in USERS:
        wanted = expected(has[user_id]) if user_id in has else {}
        assert content(await served.vectors.load_overlay(index, user_id)) == wanted
    assert await served.get(collection_name, NASTY_IDS) == before


async def test_copies_of_originals_that_changed_or_went_do_not_count(
    served: CatalogueService, collection_name: str
) -> None:
    index = await served.create(collection_name, 2)
    objects = [an_object(name, [1, 0], [0, 1]) for name in ("same", "changed", "gone", "half")]
    await served.upsert(collection_name, *objects)
    user = await random_copies(served, index, "user", ["same", "changed", "gone", "half"], 0)
    await served.vectors.replace_personal_many(index, [user])
    # As a run finds them that read its originals before these calls.
    await served.upsert(collection_name, an_object("changed", [1, 0], [1, 1]))
    await served.delete(collection_name, "gone")
    await served.vectors.replace_personal_many(index, [user])
    half = next(copy for copy in await served.vectors.copies_of(index, ["half"]))
    await served.vectors._milvus.delete(schema.personal(index), half.keys[:1])
    overlay = await served.vectors.load_overlay(index, "user")
    assert overlay is not None
    assert overlay.object_ids == ("same",)
    assert overlay.originals.tolist() == [[1, 0], [0, 1]]


async def test_originals_are_the_rows_that_are_scored(served: CatalogueService, collection_name: str) -> None:
    for name, aggregation, scored in (
        ("min", None, {"one": [[3, 4]], "flagged": [[0, 2]], "plain": [[2, 0], [0, 2]]}),
        ("avg", AVG, {"one": [[3, 4]], "flagged": [[2, 0]], "plain": [[1, 1]]}),
    ):
        fields = {} if aggregation is None else {"aggregation": aggregation}
        index = await served.create(f"{collection_name}_{name}", 2, metric=DOT, **fields)
        await served.upsert(
            index.name,
            an_object("one", [3, 4], average=0),
            an_object("flagged", [2, 0], [0, 2], average=0),
            an_object("plain", [2, 0], [0, 2]),
        )
        originals = await served.vectors.fetch_originals(index, ["plain", "one", "flagged", "unknown"])
        assert {object_id: original.parts.tolist() for object_id, original in originals.items()} == scored


async def test_users_without_copies_cost_nothing_to_replace(served: CatalogueService, collection_name: str) -> None:
    index = await served.create(collection_name, 2)
    assert await served.vectors.replace_personal_many(index, []) == 0
    nothing = np.zeros((0, 2), np.float32)
    assert await served.vectors.replace_personal(index, "user", [], nothing) == 0
    assert await served.vectors.load_overlay(index, "user") is None


async def test_rows_that_do_not_fit_one_message_are_read_in_pages(
    served: CatalogueService, collection_name: str
) -> None:
    index = await served.create(collection_name, 8192)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, 8192)).astype(np.float32)
    await served.upsert(
        collection_name, *(an_object(f"{number:03}", row) for number, row in enumerate(vectors)), each=100
    )
    originals = await served.vectors.fetch_originals(index, [f"{number:03}" for number in range(300)])
    read = np.concatenate([originals[f"{number:03}"].parts for number in range(300)])
    assert read.tobytes() == vectors.tobytes()
