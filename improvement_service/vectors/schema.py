"""The rows of a Milvus collection, and what they are found by.

A row is a part of an object (`user_id` empty), a part of a user's copy of one, or a query that a user's copies were
learned from (`object_id` empty). Ids are compared by their hashes: these are safe in filter expressions, which ids of
any characters are not (Milvus Lite does not find a newline at all).
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pymilvus import CollectionSchema, DataType, FieldSchema

from improvement_service.domain.facets import facets
from improvement_service.domain.index import Metric
from improvement_service.domain.scoring import mean, scored_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from improvement_service.domain.facets import Wanted
    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.objects import CatalogueObject, PersonalCopy, UserCopies
    from improvement_service.domain.scoring import Floats

    Row = dict[str, Any]

MEAN: Final = -1
"""The part number of an average that the object did not come with."""
ANY: Final = 'pk != ""'
SHARED: Final = 'owner == ""'
SEARCHED: Final = f"{SHARED} and scored == true"
OF_USERS: Final = "_personal"
METRICS: Final = {Metric.COSINE: "COSINE", Metric.DOT: "IP", Metric.EUCLID: "L2"}

PERSONAL: Final = ("object_id", "user_id", "part", "scored", "base_hash", "learned_from", "vector")
"""What rows of users have that is not the same in all of them."""

_ID_BYTES: Final = 512
_HASH_BYTES: Final = 32
_MOST_QUERIES: Final = 3_000
"""As many as fit a JSON field, which takes 64 KiB."""

_FIELDS: Final = (
    # The hash of (object_id, user_id, part).
    FieldSchema("pk", DataType.VARCHAR, is_primary=True, max_length=_HASH_BYTES),
    # The hash of the user, empty on shared rows; the hash of the object.
    FieldSchema("owner", DataType.VARCHAR, max_length=_HASH_BYTES),
    FieldSchema("object_key", DataType.VARCHAR, max_length=_HASH_BYTES),
    FieldSchema("object_id", DataType.VARCHAR, max_length=_ID_BYTES),
    FieldSchema("user_id", DataType.VARCHAR, max_length=_ID_BYTES),
    # On a copy the place among the scored parts; on a learned query a hash of its numbers.
    FieldSchema("part", DataType.INT64),
    FieldSchema("is_average", DataType.BOOL),
    FieldSchema("scored", DataType.BOOL),
    # Of the original's vectors; on a copy, of those it was made from.
    FieldSchema("base_hash", DataType.VARCHAR, max_length=_HASH_BYTES),
    FieldSchema("payload", DataType.JSON),
    FieldSchema("facets", DataType.JSON),
    # On a copy, the parts of the learned queries.
    FieldSchema("learned_from", DataType.JSON),
)
TYPES: Final = {field.name: field.dtype for field in _FIELDS} | {"vector": DataType.FLOAT_VECTOR}


def personal(index: SearchIndex) -> str:
    """Return what Milvus calls the collection of users' copies; that of the originals is `index.vectors`."""
    return index.vectors + OF_USERS


def collection_schema(index: SearchIndex) -> CollectionSchema:
    """Return the fields of the collection of `index`."""
    vector = FieldSchema("vector", DataType.FLOAT_VECTOR, dim=index.dimension)
    return CollectionSchema([*_FIELDS, vector], enable_dynamic_field=False)


def key(text: str) -> str:
    """Return the hash that stands for an id; empty for the empty id."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest() if text else ""


def primary_key(object_id: str, user_id: str, part: int) -> str:
    """Return the hash of a row's identity. Lengths keep (`a`, `bc`) and (`ab`, `c`) apart."""
    digest = hashlib.blake2b(digest_size=16)
    for text in (object_id, user_id):
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    digest.update(part.to_bytes(8, "big", signed=True))
    return digest.hexdigest()


def one_of(field: str, hashes: Iterable[str]) -> str:
    """Return the filter for rows whose `field` is one of some hashes."""
    return f"{field} in {json.dumps(list(hashes))}"


def searched(asked: Wanted) -> str:
    """Return the filter for the rows that a search looks at."""
    by_facet = (one_of(f'facets["{name}"]', sorted(values)) for name, values in sorted(asked.items()))
    return " and ".join((SEARCHED, *by_facet))


def object_rows(index: SearchIndex, given: CatalogueObject) -> list[Row]:
    """Return the rows of an original: its parts, and their average where that is scored and was not given."""
    scored = scored_parts(index.aggregation, given.is_average)
    parts = [
        (part, flag, scored is not None and part in scored, given.vectors[part])
        for part, flag in enumerate(given.is_average)
    ]
    if scored is None:
        parts.append((MEAN, True, True, mean(index.metric, given.vectors)))
    shared = {
        "base_hash": given.base_hash(),
        # JSON fields hold objects only; an absent payload is not an empty one.
        "payload": {} if given.payload is None else {"payload": given.payload},
        "facets": facets(given.payload or {}),
    }
    return [
        _row(given.object_id, "", part, vector, is_average=flag, scored=taken, **shared)
        for part, flag, taken, vector in parts
    ]


def user_rows(user: UserCopies) -> Iterator[Row]:
    """Return the rows of all that a user has learned."""
    numbers = [_query_number(query) for query in user.queries]
    for number, query in dict(zip(numbers, user.queries, strict=True)).items():
        yield _row("", user.user_id, number, query)
    for copy in user.copies:
        yield from _copy_rows(user.user_id, copy, [numbers[one] for one in copy.learned_from])


def of_user(row: Row, user_id: str) -> Row:
    """Return the row, read with the fields `PERSONAL`, as that of another user."""
    taken = {name: row[name] for name in ("scored", "base_hash", "learned_from")}
    return _row(row["object_id"], user_id, row["part"], np.array(row["vector"], np.float32), **taken)


def _copy_rows(user_id: str, copy: PersonalCopy, learned_from: list[int]) -> Iterator[Row]:
    # Two sessions may have asked the same.
    learned = {"queries": sorted(set(learned_from))[:_MOST_QUERIES]}
    for place, vector in enumerate(copy.parts):
        yield _row(copy.object_id, user_id, place, vector, scored=True, base_hash=copy.base_hash, learned_from=learned)


def _query_number(query: Floats) -> int:
    """Number a query by its content: what an older run wrote stays right while a newer one writes.

    In 48 bits, which every reader of JSON takes as they are.
    """
    return int.from_bytes(hashlib.blake2b(query.astype("<f4").tobytes(), digest_size=6).digest(), "big")


def _row(object_id: str, user_id: str, part: int, vector: Floats, **fields: Any) -> Row:
    return {
        "pk": primary_key(object_id, user_id, part),
        "owner": key(user_id),
        "object_key": key(object_id),
        "object_id": object_id,
        "user_id": user_id,
        "part": part,
        "is_average": False,
        "scored": False,
        "base_hash": "",
        "payload": {},
        "facets": {},
        "learned_from": {},
        "vector": vector,
    } | fields
