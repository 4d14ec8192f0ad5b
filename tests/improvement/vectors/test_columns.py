"""Rows as columns: what the client of Milvus would send and find, only faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pymilvus.client.prepare import Prepare
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

from improvement_service.domain.index import Metric, SearchIndex
from improvement_service.vectors import columns, schema

if TYPE_CHECKING:
    from improvement_service.vectors.schema import Row

DIMENSION = 5
INDEX = SearchIndex("shop", DIMENSION, Metric.COSINE)
FIELDS = [field.to_dict() for field in schema.collection_schema(INDEX).fields]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
payloads = st.dictionaries(texts, values, max_size=3)
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
rows = st.builds(
    lambda object_id, user_id, part, payload, vector, **flags: schema._row(
        object_id, user_id, part, np.array(vector, np.float32), payload=payload, **flags
    ),
    texts,
    texts,
    st.integers(-1, 2**48 - 1),
    payloads,
    st.lists(numbers, min_size=DIMENSION, max_size=DIMENSION),
    is_average=st.booleans(),
    scored=st.booleans(),
    learned_from=st.fixed_dictionaries({"queries": st.lists(st.integers(0, 2**48 - 1), max_size=3)}),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, min_size=1, max_size=4))
def test_rows_are_sent_and_read_as_the_client_packs_them(given_rows: list[Row]) -> None:
    packed = columns.pack(given_rows)
    by_client = list(Prepare.row_upsert_param("v_1", given_rows, "", FIELDS).fields_data)

    assert {one.field_name: one.type for one in packed} == {one.field_name: one.type for one in by_client}
    for fields in (packed, by_client):
        sent = milvus_pb2.UpsertRequest(fields_data=fields).SerializeToString()
        read = columns.unpack(milvus_pb2.UpsertRequest.FromString(sent).fields_data)
        assert [plain(row) for row in read] == [plain(row) for row in given_rows]


def test_nothing_found_is_no_rows() -> None:
    empty = [schema_pb2.FieldData(field_name=name, type=kind) for name, kind in schema.TYPES.items()]
    assert columns.unpack(empty) == []
    assert columns.unpack([]) == []


def plain(row: Row) -> dict[str, Any]:
    return {name: row[name].tobytes() if name == "vector" else row[name] for name in schema.TYPES}
