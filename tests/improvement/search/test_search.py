"""Searches: what they find, page by page, filtered, recorded, and as each user sees it."""

from __future__ import annotations

import base64
import json
from math import cos, pi, sin
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from tests.improvement.catalogue_service import COSINE, DOT, EUCLID, an_object, struct
from tideline.improvement.v1 import search_service_pb2 as pb
from tideline.rpc import status

if TYPE_CHECKING:
    from tests.improvement.catalogue_service import CatalogueService


def at(angle: float) -> list[float]:
    """Return the unit vector at an angle."""
    return [cos(angle), sin(angle)]


def ids(response: pb.SearchResponse) -> list[str]:
    return [result.object_id for result in response.results]


async def pages(served: CatalogueService, name: str, query: list[float], limit: int, **fields: Any) -> list[list[str]]:
    found = []
    token = ""
    while True:
        response = await served.search(name, query, limit=limit, page_token=token, **fields)
        found.append(ids(response))
        token = response.next_page_token
        if not token:
            return found


@pytest.mark.parametrize(("metric", "score"), [(COSINE, 0.8), (DOT, 8.0), (EUCLID, -(45**0.5))])
async def test_a_higher_score_is_nearer_under_every_metric(
    served: CatalogueService, collection_name: str, metric: int, score: float
) -> None:
    await served.create(collection_name, 2, metric=metric)
    await served.upsert(collection_name, an_object("near", [8, 6], payload={"is": "near"}), an_object("far", [-8, 6]))
    near, far = (await served.search(collection_name, [1, 0] if metric != EUCLID else [2, 3])).results
    assert (near.object_id, far.object_id) == ("near", "far")
    assert near.score == near.base_score == pytest.approx(score, abs=1e-6)
    assert near.payload == struct({"is": "near"})
    assert not far.HasField("payload")


async def test_ten_results_are_returned_unless_told_otherwise(served: CatalogueService, collection_name: str) -> None:
    await served.create(collection_name, 2)
    await served.upsert(collection_name, *(an_object(f"{number:02}", at(number / 100)) for number in range(30)))
    assert ids(await served.search(collection_name, at(0))) == [f"{number:02}" for number in range(10)]
    assert len((await served.search(collection_name, at(0), limit=1000)).results) == 30


async def test_pages_repeat_nothing_and_miss_nothing_when_all_score_the_same(
    served: CatalogueService, collection_name: str
) -> None:
    await served.create(collection_name, 2)
    names = [f"{number:03}" for number in range(100)]
    await served.upsert(collection_name, *(an_object(name, [1, 1]) for name in reversed(names)))
    found = await pages(served, collection_name, [1, 0], 7)
    assert [len(page) for page in found] == [7] * 14 + [2]
    assert [object_id for page in found for object_id in page] == names


async def test_objects_of_many_parts_come_once_and_fill_their_page(
    served: CatalogueService, collection_name: str
) -> None:
    await served.create(collection_name, 2)
    await served.upsert(
        collection_name,
        *(an_object(f"{one}", *(at(one / 10 + part / 10_000) for part in range(100))) for one in range(8)),
    )
    assert await pages(served, collection_name, at(0), 3) == [["0", "1", "2"], ["3", "4", "5"], ["6", "7"]]


async def test_a_page_token_is_good_for_its_own_search_only(served: CatalogueService, collection_name: str) -> None:
    await served.create(collection_name, 2)
    await served.upsert(collection_name, *(an_object(str(number), at(number)) for number in range(4)))
    token = (await served.search(collection_name, at(0), limit=1)).next_page_token
    text = base64.urlsafe_b64decode(token).decode()
    check, (shown, score, object_id) = text[:16], json.loads(text[16:])
    forged = base64.urlsafe_b64encode(f"{check}{json.dumps([-shown, score, object_id])}".encode()).decode()
    odd = base64.urlsafe_b64encode(f"{check}{json.dumps([object_id, score, shown])}".encode()).decode()
    for query, user_id, bad in ((at(1), "", token), (at(0), "user", token), (at(0), "", forged), (at(0), "", odd)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await served.search(collection_name, query, user_id, limit=1, page_token=bad)
        assert status.reason_of(refused.value) == "INVALID_PAGE_TOKEN"
    # Another limit, and another session to record it as, go on with the same search.
    rest = await served.search(collection_name, at(0), limit=3, page_token=token, record_session={"session_id": "p2"})
    assert len(rest.results) == 3
    assert served.clickstream.recorded[0].first_rank == 2


async def test_filters_compare_fields_of_the_payload(served: CatalogueService, collection_name: str) -> None:
    await served.create(collection_name, 2)
    nasty = 'it\'s "x" \\ \n\t \N{GRINNING FACE}'
    payloads: dict[str, dict[str, Any]] = {
        "a": {"colour": "red", "size": 1, "new": True},
        "b": {"colour": "green", "size": 1.5, "new": 1},
        "c": {"colour": nasty, "size": "1", nasty: nasty},
        "d": {"size": {"size": 1}, "colour": ["red"]},
    }
    objects = [an_object(object_id, [1, 0], payload=payload) for object_id, payload in payloads.items()]
    await served.upsert(collection_name, *objects, an_object("e", [1, 0]))
    for payload_filter, expected in (
        ({}, ["a", "b", "c", "d", "e"]),
        ({"colour": "red"}, ["a"]),
        ({"colour": ["red", nasty, "blue"]}, ["a", "c"]),
        ({"size": 1}, ["a"]),
        ({"size": [1, 1.5]}, ["a", "b"]),
        ({"size": ["1", 1]}, ["a", "c"]),
        ({"new": True}, ["a"]),
        ({"new": 1}, ["b"]),
        ({"colour": "red", "size": 1.5}, []),
        ({nasty: nasty}, ["c"]),
        ({"payload": "red"}, []),
    ):
        assert ids(await served.search(collection_name, [1, 0], payload_filter=payload_filter)) == expected


@pytest.mark.parametrize("value", [None, {"a": 1}, [], [[1]], [None]], ids=str)
async def test_a_filter_of_anything_but_plain_values_is_refused(served: CatalogueService, value: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served.search("any", [1, 0], payload_filter={"f": value})
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert status.field_of(refused.value) == "payload_filter.fields['f']"


async def test_copies_stand_in_by_rule_and_not_by_score(served: CatalogueService, collection_name: str) -> None:
    index = await served.create(collection_name, 2)
    angles = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 3.0}
    await served.upsert(collection_name, *(an_object(object_id, at(angle)) for object_id, angle in angles.items()))
    # The nearest was passed over, and the farthest was what the user meant.
    await served.learn(index, "user", {"a": [at(0.4)], "d": [at(0.15)]}, [at(0)])
    found = await served.search(collection_name, at(0), "user")
    assert ids(found) == ["d", "b", "c", "a"]
    for result, (angle, base, personal) in zip(
        found.results, [(0.15, 3.0, True), (0.2, 0.2, False), (0.3, 0.3, False), (0.4, 0.1, True)], strict=True
    ):
        assert result.score == pytest.approx(cos(angle), abs=1e-6)
        assert result.base_score == pytest.approx(cos(base), abs=1e-6)
        assert result.personal == personal
    assert ids(await served.search(collection_name, at(0), "somebody else")) == ["a", "b", "c", "d"]
    assert ids(await served.search(collection_name, at(0))) == ["a", "b", "c", "d"]


async def test_copies_count_only_for_queries_like_those_they_were_learned_from(
    served: CatalogueService, collection_name: str
) -> None:
    index = await served.create(collection_name, 2, metric=DOT, adjuster={"gate": 0.5})
    await served.upsert(collection_name, an_object("a", at(0)))
    await served.learn(index, "user", {"a": [at(0.2)]}, [at(0), at(pi)])
    for angle, personal in ((0, True), (pi / 3 - 0.01, True), (pi / 3 + 0.01, False), (pi - 1, True), (2, False)):
        # Their length does not matter, whatever the metric.
        (result,) = (await served.search(collection_name, [100 * x for x in at(angle)], "user")).results
        assert result.personal == personal


async def test_a_user_who_overrides_all_that_is_near_still_gets_a_full_page(
    served: CatalogueService, collection_name: str
) -> None:
    index = await served.create(collection_name, 2)
    await served.upsert(collection_name, *(an_object(f"{number:03}", at(number / 200)) for number in range(200)))
    # Everything the base search finds first is moved out of the way.
    await served.learn(index, "user", {f"{number:03}": [at(2)] for number in range(150)}, [at(0)])
    found = await served.search(collection_name, at(0), "user", limit=20)
    assert ids(found) == [f"{number:03}" for number in range(150, 170)]


async def test_what_a_run_wrote_is_found_by_the_next_search(served: CatalogueService, collection_name: str) -> None:
    index = await served.create(collection_name, 2)
    await served.upsert(collection_name, an_object("a", at(0.5)), an_object("b", at(0.6)))
    for angle in np.linspace(0, 0.4, 20):
        await served.learn(index, "user", {"b": [at(angle)]}, [at(0)])
        first, _ = (await served.search(collection_name, at(0), "user")).results
        assert first.object_id == "b"
        assert first.score == pytest.approx(cos(angle), abs=1e-6)
    await served.learn(index, "user", {}, [])
    assert ids(await served.search(collection_name, at(0), "user")) == ["a", "b"]


async def test_more_users_than_fit_in_memory_are_served_right(served: CatalogueService, collection_name: str) -> None:
    dimension = 256
    index = await served.create(collection_name, dimension)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((100, dimension))
    await served.upsert(collection_name, *(an_object(str(number), row) for number, row in enumerate(vectors)))
    query = rng.standard_normal(dimension)
    for user in range(8):
        # Half a megabyte each, of the one that these servers keep.
        moved = {str(number): [row + query * (number == user)] for number, row in enumerate(vectors)}
        await served.learn(index, f"user {user}", moved, [query])
    for user in (*range(8), *range(8)):
        found = await served.search(collection_name, query, f"user {user}", limit=1)
        assert ids(found) == [str(user)]


@pytest.mark.parametrize(
    ("request_fields", "reason", "field"),
    [
        ({"query_vector": [1, 0, 0]}, "INVALID_VECTOR", "query_vector"),
        ({"query_vector": [0, 0]}, "INVALID_VECTOR", "query_vector"),
        ({"query_vector": [1, float("inf")]}, "INVALID_FIELD", "query_vector[1]"),
        ({"query_vector": [1, 0], "limit": 1001}, "INVALID_FIELD", "limit"),
        ({"query_vector": [1, 0], "limit": -1}, "INVALID_FIELD", "limit"),
        ({}, "INVALID_FIELD", "query_vector"),
    ],
    ids=str,
)
async def test_a_bad_search_is_refused_naming_the_field(
    served: CatalogueService, collection_name: str, request_fields: dict[str, Any], reason: str, field: str
) -> None:
    await served.create(collection_name, 2)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served.searches.Search(pb.SearchRequest(collection=collection_name, **request_fields))
    assert (status.reason_of(refused.value), status.field_of(refused.value)) == (reason, field)


async def test_a_text_is_embedded_when_there_is_no_vector(served: CatalogueService, collection_name: str) -> None:
    await served.create(collection_name, 2, metric=DOT)
    await served.upsert(collection_name, an_object("a", [0, 1]))
    found = await served.searches.Search(pb.SearchRequest(collection=collection_name, text="A"))
    assert [result.score for result in found.results] == [65.0]


async def test_a_search_is_recorded_as_a_session_when_wanted(served: CatalogueService, collection_name: str) -> None:
    await served.create(collection_name, 2)
    await served.upsert(collection_name, *(an_object(str(number), at(number / 10)) for number in range(5)))
    meta = struct({"surface": "shop"})
    found = await served.search(
        collection_name, at(0), "user", limit=2, record_session={"session_id": "s1", "search_meta": meta}
    )
    assert found.session_id == "s1"
    (recorded,) = served.clickstream.recorded
    assert [result.object_id for result in recorded.results] == ids(found) == ["0", "1"]
    assert (recorded.recording.search_meta, recorded.query.user_id, recorded.first_rank) == (
        {"surface": "shop"},
        "user",
        1,
    )
    assert not (await served.search(collection_name, at(0), "user")).session_id


async def test_a_copy_and_an_original_that_are_as_far_away_score_the_same(
    served: CatalogueService, collection_name: str
) -> None:
    index = await served.create(collection_name, 2, metric=EUCLID)
    await served.upsert(collection_name, an_object("a", [9.0, 9.0]), an_object("b", [3.0, 4.0]))
    query = [2.0, 1.0]
    await served.learn(index, "ann", {"a": [[5.0, 2.0]]}, [query])
    copy, original = (await served.search(collection_name, query, "ann")).results
    assert (copy.object_id, copy.score) == ("a", -(10.0**0.5))
    assert (original.object_id, original.score) == ("b", -(10.0**0.5))
