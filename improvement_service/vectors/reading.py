"""From the rows of a Milvus collection to objects, originals and overlays."""

from __future__ import annotations

from itertools import groupby
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from improvement_service.domain.index import Metric
from improvement_service.domain.objects import CatalogueObject
from improvement_service.domain.overlay import Overlay

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from improvement_service.domain.objects import Payload
    from improvement_service.domain.scoring import Floats
    from improvement_service.vectors.schema import Row


def by_object(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Yield each object's rows in the order of their parts."""
    ordered = sorted(rows, key=lambda row: (row["object_id"], row["part"]))
    for object_id, parts in groupby(ordered, key=lambda row: row["object_id"]):
        yield object_id, list(parts)


def vectors_of(rows: Sequence[Row]) -> Floats:
    """Return the vectors of some rows, [R, D]."""
    return np.array([row["vector"] for row in rows], dtype=np.float32)


def payload_of(row: Row) -> Payload | None:
    """Return the payload that an original came with."""
    payload: Payload | None = row["payload"].get("payload")
    return payload


def object_from_rows(rows: Sequence[Row]) -> CatalogueObject:
    """Return the object that these rows, in the order of their parts, make up."""
    return CatalogueObject(
        object_id=rows[0]["object_id"],
        vectors=tuple(vectors_of(rows)),
        is_average=tuple(row["is_average"] for row in rows),
        payload=payload_of(rows[0]),
    )


def score(metric: Metric, distance: float) -> float:
    """Return the score that Milvus's measure stands for: it squares Euclidean distances."""
    if metric is Metric.EUCLID:
        return -sqrt(max(distance, 0.0))
    return min(1.0, max(-1.0, distance)) if metric is Metric.COSINE else distance


def overlay_from_rows(of_user: Sequence[Row], of_originals: Sequence[Row]) -> Overlay | None:
    """Return the overlay that a user's rows and the scored rows of originals make up; None when it is empty.

    A copy counts when its original has the vectors that it was made from, and when it is complete: a writer may have
    stopped half-way.
    """
    queries = [row for row in of_user if not row["object_id"]]
    place_of_query = {row["part"]: place for place, row in enumerate(queries)}
    originals = dict(by_object(of_originals))
    copies = {
        object_id: rows
        for object_id, rows in by_object([row for row in of_user if row["object_id"]])
        if _stands(rows, originals.get(object_id, []))
    }
    if not copies:
        return None
    bases = [originals[object_id] for object_id in copies]
    learned = [
        (place, place_of_query[number])
        for place, rows in enumerate(copies.values())
        for number in rows[0]["learned_from"]["queries"]
        if number in place_of_query
    ]
    lengths = [len(rows) for rows in copies.values()]
    dimension = len(bases[0][0]["vector"])
    return Overlay(
        object_ids=tuple(copies),
        starts=np.cumsum([0, *lengths[:-1]]),
        copies=vectors_of([row for rows in copies.values() for row in rows]),
        originals=vectors_of([row for rows in bases for row in rows]),
        queries=vectors_of(queries).reshape(-1, dimension),
        learned=np.array(learned, dtype=np.int64).reshape(-1, 2),
        payloads=tuple(payload_of(rows[0]) for rows in bases),
        facets=tuple(rows[0]["facets"] for rows in bases),
    )


def _stands(copy: Sequence[Row], original: Sequence[Row]) -> bool:
    base_hash = original[0]["base_hash"] if original else ""
    return len(copy) == len(original) and all(row["base_hash"] == base_hash for row in copy)
