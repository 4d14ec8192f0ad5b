"""Objects: what was given comes back, and nothing that is wrong is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from tests.improvement.catalogue_service import (
    AVG,
    DOT,
    NASTY_IDS,
    CatalogueService,
    an_object,
    catalogue_serving,
)
from tideline.improvement.v1 import object_pb2
from tideline.rpc import status

if TYPE_CHECKING:
    from google.protobuf.message import Message

PAYLOADS = (
    None,
    {},
    {"price": 1e300, "zero": -0.0, "many": 9007199254740993.0, "third": 1 / 3},
    {"text": 'it\'s "quoted" \\ \n \t \u2028 \N{GRINNING FACE}', "": "an empty name"},
    {"nested": {"list": [1.0, [True, None], {"deep": "x" * 20_000}]}, "payload": None},
)


async def test_objects_come_back_as_they_were_given(served: CatalogueService, collection_name: str) -> None:
    await served.create(collection_name, 3, metric=DOT)
    rng = np.random.default_rng(1)
    given = [
        an_object(
            object_id,
            *rng.standard_normal((1 + number % 4, 3)).astype(np.float32).tolist(),
            average=[None, 0][number % 2],
            payload=PAYLOADS[number % len(PAYLOADS)],
        )
        for number, object_id in enumerate(NASTY_IDS)
    ]
    assert (await served.upsert(collection_name, *given, each=5)).upserted == len(given)
    got = await served.get(collection_name, [*reversed(NASTY_IDS), "unknown"])
    assert [one.object for one in got] == given[::-1]
    assert [one.display_id for one in got] == list(reversed(NASTY_IDS))
    assert not any(one.personal for one in got)


async def test_an_average_that_the_service_made_does_not_come_back(
    served: CatalogueService, collection_name: str
) -> None:
    await served.create(collection_name, 2, aggregation=AVG)
    given = an_object("a", [1, 0], [0, 1])
    await served.upsert(collection_name, given)
    assert [one.object for one in await served.get(collection_name, ["a"])] == [given]


async def test_an_object_replaced_by_one_of_fewer_parts_keeps_none_of_the_old(
    served: CatalogueService, collection_name: str
) -> None:
    index = await served.create(collection_name, 2)
    await served.upsert(collection_name, an_object("a", [1, 0], [0, 1], [0, -1]), an_object("b", [1, 1]))
    await served.upsert(collection_name, an_object("a", [-1, 0]))
    assert [one.object for one in await served.get(collection_name, ["a"])] == [an_object("a", [-1, 0])]
    assert [one.object_id for one in (await served.search(collection_name, [0, 1])).results] == ["b", "a"]
    assert (await served.vectors.fetch_originals(index, ["a"]))["a"].parts.tolist() == [[-1, 0]]


async def test_the_last_one_counts_when_an_id_comes_twice(served: CatalogueService, collection_name: str) -> None:
    await served.create(collection_name, 2)
    last = an_object("a", [0, 1], payload={"is": "last"})
    changes = await served.upsert(collection_name, an_object("a", [1, 0], [1, 1]), last, each=1)
    assert changes.upserted == 1
    assert [one.object for one in await served.get(collection_name, ["a"])] == [last]


@pytest.mark.parametrize(
    ("bad", "reason", "field"),
    [
        (an_object("x", [1, 0], [1, 0, 0]), "INVALID_VECTOR", "objects[1].parts[1].vector"),
        (an_object("x", [0, 0]), "INVALID_VECTOR", "objects[1].parts[0].vector"),
        (an_object("x", [1e-30, 0]), "INVALID_VECTOR", "objects[1].parts[0].vector"),
        (an_object("x", [1e20, 0]), "INVALID_VECTOR", "objects[1].parts[0].vector"),
        (an_object("x", [1, float("nan")]), "INVALID_FIELD", "objects[1].parts[0].vector[1]"),
        (an_object("x", [float("-inf"), 1]), "INVALID_FIELD", "objects[1].parts[0].vector[0]"),
        (an_object("x"), "INVALID_FIELD", "objects[1].parts"),
        (an_object("", [1, 0]), "INVALID_FIELD", "objects[1].object_id"),
        (an_object("x" * 513, [1, 0]), "INVALID_FIELD", "objects[1].object_id"),
        (an_object("x\0", [1, 0]), "INVALID_FIELD", "objects[1].object_id"),
        (an_object("x", [1, 0], payload={"text": "x" * 40_000}), "INVALID_FIELD", "objects[1].payload"),
        (an_object("x", [1, 0], payload={"n": float("nan")}), "INVALID_FIELD", "objects[1].payload"),
        (
            object_pb2.Object(object_id="x", parts=[{"vector": [1, 0], "is_average": True}] * 2),
            "INVALID_FIELD",
            "objects[1].parts",
        ),
    ],
    ids=lambda value: "" if isinstance(value, object_pb2.Object) else str(value),
)
async def test_one_bad_object_and_nothing_of_the_stream_is_written(
    served: CatalogueService, collection_name: str, bad: Message, reason: str, field: str
) -> None:
    await served.create(collection_name, 2)
    good = [an_object(f"good {number}", [1, number]) for number in range(3)]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served.upsert(collection_name, *good, bad, each=2)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (status.reason_of(refused.value), status.field_of(refused.value)) == (reason, field)
    assert not (await served.search(collection_name, [1, 0])).results


async def test_parts_that_cancel_out_have_no_average(served: CatalogueService, collection_name: str) -> None:
    await served.create(collection_name, 2, aggregation=AVG)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served.upsert(collection_name, an_object("a", [1, 0], [-2, 0]))
    assert status.reason_of(refused.value) == "INVALID_VECTOR"
    await served.upsert(collection_name, an_object("a", [1, 0], [-2, 0], average=1))
    assert [one.score for one in (await served.search(collection_name, [-1, 0])).results] == [1.0]


async def test_zero_vectors_are_fine_where_they_can_be_compared(served: CatalogueService, collection_name: str) -> None:
    await served.create(collection_name, 2, metric=DOT)
    await served.upsert(collection_name, an_object("a", [0, 0]))
    assert [one.score for one in (await served.search(collection_name, [1, 0])).results] == [0.0]


async def test_a_stream_of_too_many_vectors_is_refused(served: CatalogueService, collection_name: str) -> None:
    await served.create(collection_name, 2)
    many = (an_object(str(number), *[[1, 0]] * 256) for number in range(391))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served.upsert(collection_name, *many, each=100)
    assert status.reason_of(refused.value) == "STREAM_TOO_LARGE"
    assert not (await served.search(collection_name, [1, 0])).results


async def test_a_stream_stays_with_one_collection_that_is_there(served: CatalogueService, collection_name: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await served.upsert(collection_name, an_object("a", [1, 0]))
    assert status.reason_of(unknown.value) == "COLLECTION_NOT_FOUND"


async def test_more_objects_than_a_write_takes_are_written_all_the_same(
    served: CatalogueService, collection_name: str
) -> None:
    index = await served.create(collection_name, 2)
    objects = [an_object(str(number), [1, number]) for number in range(2_500)]
    assert (await served.upsert(collection_name, *objects)).upserted == 2_500
    hashes = await served.vectors.base_hashes(index, [str(number) for number in range(2_500)])
    assert len(hashes) == len(set(hashes.values())) == 2_500


async def test_a_milvus_that_does_not_answer_is_unavailable(
    mongo_uri: str, database_name: str, collection_name: str
) -> None:
    async with catalogue_serving(mongo_uri, database_name, "http://127.0.0.1:1") as served:
        with pytest.raises(grpc.aio.AioRpcError) as down:
            await served.create(collection_name, 2)
        assert down.value.code() == grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError) as down:
            await served.search(collection_name, [1, 0])
        assert status.reason_of(down.value) == "DEPENDENCY_UNAVAILABLE"
