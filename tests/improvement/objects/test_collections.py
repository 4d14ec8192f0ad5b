"""Collections: created once, found by name, deleted with all that is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from improvement_service.domain.index import Metric, SearchIndex
from tests.improvement.catalogue_service import AVG, COSINE, EUCLID, an_object
from tideline.improvement.v1 import object_pb2
from tideline.improvement.v1 import object_service_pb2 as pb
from tideline.rpc import status

if TYPE_CHECKING:
    from tests.improvement.catalogue_service import CatalogueService


async def create(served: CatalogueService, name: str, **fields: Any) -> object_pb2.Collection:
    collection = object_pb2.Collection(**{"name": name, "dimension": 2, "metric": COSINE} | fields)
    return (await served.objects.CreateCollection(pb.CreateCollectionRequest(collection=collection))).collection


async def test_creating_a_collection_fills_in_what_was_left_out(served: CatalogueService, collection_name: str) -> None:
    created = await create(served, collection_name)
    assert created.aggregation == object_pb2.AGGREGATION_MIN
    assert (created.adjuster.name, created.adjuster.gate) == ("bounded_rotation", 0.6)
    assert created.HasField("created_at")
    got = await served.objects.GetCollection(pb.GetCollectionRequest(name=collection_name))
    assert got.collection == created


async def test_creating_a_collection_again_returns_the_first_one(
    served: CatalogueService, collection_name: str
) -> None:
    adjuster = {"name": "torch_based", "parameters": {"adjustment_rate": 0.01}, "gate": 0.0}
    first = await create(served, collection_name, metric=EUCLID, aggregation=AVG, adjuster=adjuster)
    again = await create(served, collection_name, metric=EUCLID, aggregation=AVG, adjuster=adjuster)
    assert again == first
    assert first.adjuster.gate == 0.0


@pytest.mark.parametrize(
    "other",
    [
        {"dimension": 3},
        {"metric": EUCLID},
        {"aggregation": AVG},
        {"adjuster": {"name": "torch_based"}},
        {"adjuster": {"parameters": {"eta": 0.2}}},
        {"adjuster": {"gate": 0.5}},
    ],
    ids=str,
)
async def test_a_name_taken_by_another_definition_is_refused(
    served: CatalogueService, collection_name: str, other: dict[str, Any]
) -> None:
    await create(served, collection_name)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await create(served, collection_name, **other)
    assert refused.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert status.reason_of(refused.value) == "COLLECTION_CONFLICT"


@pytest.mark.parametrize(
    ("adjuster", "field"),
    [
        ({"name": "no_such"}, "collection.adjuster.name"),
        ({"parameters": {"no_such": 1.0}}, "collection.adjuster.parameters['no_such']"),
        ({"parameters": {"eta": -1.0}}, "collection.adjuster.parameters['eta']"),
    ],
    ids=str,
)
async def test_an_adjuster_that_cannot_be_had_is_refused(
    served: CatalogueService, collection_name: str, adjuster: dict[str, Any], field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await create(served, collection_name, adjuster=adjuster)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert status.reason_of(refused.value) == "INVALID_ADJUSTER"
    assert status.field_of(refused.value) == field


@pytest.mark.parametrize("name", ["", "1st", "with space", "a-b", "x" * 64, "naïve"])
async def test_a_name_of_other_characters_is_refused(served: CatalogueService, name: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await create(served, name)
    assert status.field_of(refused.value) == "collection.name"


async def test_collections_are_listed_by_name_page_by_page(served: CatalogueService) -> None:
    names = [f"listed_{number}" for number in (3, 1, 2)]
    for name in names:
        # Defined, without the time it takes to make room for vectors.
        await served.definitions.add(SearchIndex(name, 2, Metric.COSINE, vectors=name))
    first = await served.objects.ListCollections(pb.ListCollectionsRequest(page_size=2))
    second = await served.objects.ListCollections(
        pb.ListCollectionsRequest(page_size=2, page_token=first.next_page_token)
    )
    assert [one.name for one in (*first.collections, *second.collections)] == sorted(names)
    assert not second.next_page_token


async def test_a_deleted_collection_is_gone_with_all_that_was_in_it(
    served: CatalogueService, collection_name: str
) -> None:
    index = await served.create(collection_name, 2)
    await served.upsert(collection_name, an_object("a", [1, 0]))
    await served.learn(index, "user", {"a": [[0, 1]]}, [[1, 1]])
    deleted = await served.objects.DeleteCollection(pb.DeleteCollectionRequest(name=collection_name))
    again = await served.objects.DeleteCollection(pb.DeleteCollectionRequest(name=collection_name))
    assert (deleted.deleted, again.deleted) == (True, False)
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await served.search(collection_name, [1, 0])
    assert status.reason_of(unknown.value) == "COLLECTION_NOT_FOUND"

    await served.create(collection_name, 2)
    assert not (await served.search(collection_name, [1, 1], "user")).results
    assert await served.versions.get(collection_name, "user") is None


async def test_a_collection_left_half_created_is_finished_by_creating_it_again(
    served: CatalogueService, collection_name: str
) -> None:
    await served.definitions.add(SearchIndex(collection_name, 2, Metric.COSINE, vectors=f"{collection_name}_half"))
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await served.search(collection_name, [1, 0])
    assert status.reason_of(unknown.value) == "COLLECTION_NOT_FOUND"
    await create(served, collection_name)
    assert not (await served.search(collection_name, [1, 0])).results
