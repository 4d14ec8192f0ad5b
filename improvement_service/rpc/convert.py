"""Objects, collections and searches between messages and the domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from improvement_service.domain.facets import wanted
from improvement_service.domain.index import DEFAULT_ADJUSTER, DEFAULT_GATE, Aggregation, Metric, SearchIndex
from improvement_service.domain.objects import CatalogueObject
from improvement_service.domain.search import Position, Query, Recording
from tideline.common.v1.error_reason_pb2 import ErrorReason
from tideline.errors import InvalidPageToken
from tideline.improvement.v1 import object_pb2, object_service_pb2, search_service_pb2
from tideline.rpc import paging
from tideline.rpc.structs import struct_from_pb, struct_to_pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from improvement_service.domain.objects import StoredObject
    from improvement_service.domain.search import Found, Result

RESULTS: Final = 10
EXPORTED_BYTES: Final = 4_000_000

_METRICS: Final = {
    object_pb2.METRIC_COSINE: Metric.COSINE,
    object_pb2.METRIC_DOT: Metric.DOT,
    object_pb2.METRIC_EUCLID: Metric.EUCLID,
}
_AGGREGATIONS: Final = {
    object_pb2.AGGREGATION_UNSPECIFIED: Aggregation.MIN,
    object_pb2.AGGREGATION_MIN: Aggregation.MIN,
    object_pb2.AGGREGATION_AVG: Aggregation.AVG,
}
_METRICS_TO_PB: Final = {metric: number for number, metric in _METRICS.items()}
_AGGREGATIONS_TO_PB: Final = {aggregation: number for number, aggregation in _AGGREGATIONS.items()}


def index_from_pb(collection: object_pb2.Collection) -> SearchIndex:
    """Return the search index that a collection defines, its defaults filled in."""
    adjuster = collection.adjuster
    return SearchIndex(
        name=collection.name,
        dimension=collection.dimension,
        metric=_METRICS[collection.metric],
        aggregation=_AGGREGATIONS[collection.aggregation],
        adjuster=adjuster.name or DEFAULT_ADJUSTER,
        parameters=dict(adjuster.parameters),
        gate=adjuster.gate if adjuster.HasField("gate") else DEFAULT_GATE,
    )


def index_to_pb(index: SearchIndex) -> object_pb2.Collection:
    message = object_pb2.Collection(
        name=index.name,
        dimension=index.dimension,
        metric=_METRICS_TO_PB[index.metric],
        aggregation=_AGGREGATIONS_TO_PB[index.aggregation],
        adjuster=object_pb2.Adjuster(name=index.adjuster, parameters=index.parameters, gate=index.gate),
    )
    if index.created_at is not None:
        message.created_at.FromDatetime(index.created_at)
    return message


def object_from_pb(message: object_pb2.Object, path: str) -> CatalogueObject:
    """Return the object; raises `InvalidField` for a payload that is too deep, its field given below `path`."""
    return CatalogueObject(
        object_id=message.object_id,
        vectors=tuple(np.array(part.vector, dtype=np.float32) for part in message.parts),
        is_average=tuple(part.is_average for part in message.parts),
        payload=struct_from_pb(message.payload, f"{path}.payload") if message.HasField("payload") else None,
    )


def stored_to_pb(stored: StoredObject) -> object_service_pb2.StoredObject:
    message = object_service_pb2.StoredObject(personal=bool(stored.user_id), display_id=stored.display_id)
    _fill(message.object, stored.object)
    return message


def exported_to_pb(objects: Iterable[CatalogueObject]) -> Iterator[object_service_pb2.ExportObjectsResponse]:
    """Yield messages of no more than `EXPORTED_BYTES`, unless it is a single object."""
    response, size = object_service_pb2.ExportObjectsResponse(), 0
    for one in objects:
        message = object_pb2.Object()
        _fill(message, one)
        if response.objects and size + message.ByteSize() > EXPORTED_BYTES:
            yield response
            response, size = object_service_pb2.ExportObjectsResponse(), 0
        response.objects.append(message)
        size += message.ByteSize()
    yield response


def _fill(message: object_pb2.Object, kept: CatalogueObject) -> None:
    message.object_id = kept.object_id
    for vector, is_average in zip(kept.vectors, kept.is_average, strict=True):
        message.parts.add(vector=vector.tolist(), is_average=is_average)
    if kept.payload is not None:
        struct_to_pb(kept.payload, message.payload)


def query_from_pb(request: search_service_pb2.SearchRequest) -> Query:
    """Return the query; raises `InvalidField` for a bad filter and `InvalidPageToken`."""
    payload_filter = struct_from_pb(request.payload_filter, "payload_filter")
    return Query(
        collection=request.collection,
        vector=np.array(request.query_vector, dtype=np.float32) if request.query_vector else None,
        text=request.text,
        user_id=request.user_id,
        limit=request.limit or RESULTS,
        after=_position(request),
        payload_filter=payload_filter,
        wanted=wanted(payload_filter),
        recording=_recording(request.record_session) if request.HasField("record_session") else None,
    )


def _recording(message: search_service_pb2.RecordSession) -> Recording:
    meta = message.search_meta
    return Recording(
        message.session_id,
        struct_from_pb(meta, "record_session.search_meta") if message.HasField("search_meta") else None,
    )


def found_to_pb(found: Found, request: search_service_pb2.SearchRequest) -> search_service_pb2.SearchResponse:
    end = found.page.next
    return search_service_pb2.SearchResponse(
        results=map(_result_to_pb, found.page.results),
        next_page_token=paging.token(_paged(request), [end.shown, end.score, end.object_id]) if end else "",
        session_id=found.session_id,
        not_recorded=ErrorReason.Value(f"ERROR_REASON_{found.not_recorded or 'UNSPECIFIED'}"),
    )


def _result_to_pb(result: Result) -> search_service_pb2.ScoredObject:
    message = search_service_pb2.ScoredObject(
        object_id=result.object_id, score=result.score, base_score=result.base_score, personal=result.personal
    )
    if result.payload is not None:
        struct_to_pb(result.payload, message.payload)
    return message


def _position(request: search_service_pb2.SearchRequest) -> Position | None:
    match paging.cursor(_paged(request), 3):
        case None:
            return None
        case [int(shown), float(score), str(object_id)] if shown > 0:
            return Position(shown, score, object_id)
    raise InvalidPageToken("was not made by this service", field="page_token")


def _paged(request: search_service_pb2.SearchRequest) -> search_service_pb2.SearchRequest:
    """Return what has to stay the same from page to page: each page may be recorded as a session of its own."""
    bare = search_service_pb2.SearchRequest()
    bare.CopyFrom(request)
    bare.ClearField("record_session")
    return bare
